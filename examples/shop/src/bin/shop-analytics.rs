//! The analytics service: see `shop::services::analytics`.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    shop::services::analytics::run(clap::Parser::parse()).await
}
