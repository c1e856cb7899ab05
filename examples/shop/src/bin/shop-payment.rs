//! The payment service: see `shop::services::payment`.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    shop::services::payment::run(clap::Parser::parse()).await
}
