//! The order service: see `shop::services::order`.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    shop::services::order::run(clap::Parser::parse()).await
}
