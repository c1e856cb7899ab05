//! The loyalty service: see `shop::services::loyalty`.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    shop::services::loyalty::run(clap::Parser::parse()).await
}
