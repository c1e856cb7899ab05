//! The notification service: see `shop::services::notification`.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    shop::services::notification::run(clap::Parser::parse()).await
}
