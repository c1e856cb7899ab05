//! The inventory service: see `shop::services::inventory`.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    shop::services::inventory::run(clap::Parser::parse()).await
}
