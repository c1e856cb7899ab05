//! A bare relay on loopback, which hands on bytes and looks at none: what the same traffic costs when nothing is done for it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Instant;

use clap::{Args, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::through::Flight;
use super::wire::{self, Properties};
use super::{Load, WRITE_MESSAGES, copies};
use crate::measure::{Meter, Report, WARMUP, body, now, runtime};

/// Room for what one read may bring.
const READ_BYTES: usize = 1 << 18;

/// Which traffic is relayed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Traffic {
    /// As of `amqp-through`: messages from one connection to another.
    Through,
    /// As of `amqp-request`: requests and answers.
    Request,
}

#[derive(Args, Debug)]
pub(crate) struct Relay {
    #[command(flatten)]
    load: Load,
    #[arg(long, value_enum)]
    traffic: Traffic,
}

pub(crate) fn run(relay: Relay) -> anyhow::Result<Report> {
    let (address, listens) = std::sync::mpsc::sync_channel(1);
    // A thread and a runtime of its own: as a server that is another process.
    std::thread::spawn(move || -> anyhow::Result<()> {
        runtime(1)?.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            address.send(listener.local_addr()?)?;
            serve(listener).await
        })
    });
    let address = listens.recv()?;
    runtime(1)?.block_on(async {
        let (near, far) = (connect(address).await?, connect(address).await?);
        match relay.traffic {
            Traffic::Through => through(near, far, relay.load).await,
            Traffic::Request => request(near, far, relay.load).await,
        }
    })
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Joins the first two connections.
async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let (mut one, mut other) = (listener.accept().await?.0, listener.accept().await?.0);
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, READ_BYTES, READ_BYTES).await?;
    Ok(())
}

async fn through(mut near: TcpStream, mut far: TcpStream, load: Load) -> anyhow::Result<Report> {
    let copies = copies(&wire::publish("", b"bench-through", Properties::default(), &body(load.size)));
    let length = copies.len() / WRITE_MESSAGES;
    let flight = Flight::new(load.window, Meter::new(WARMUP, load.duration, None)?)?;
    let send = async {
        while let Some(count) = flight.next_write() {
            match count {
                0 => flight.until_room().await,
                count => near.write_all(&copies[..count * length]).await?,
            }
        }
        anyhow::Ok(())
    };
    let take = async {
        let (mut buffer, mut bytes) = (vec![0; READ_BYTES], 0);
        while !flight.is_over() {
            bytes += far.read(&mut buffer).await?;
            flight.arrived((bytes / length) as u64);
            bytes %= length;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(send, take)?;
    flight.finish("amqp-relay-through")
}

async fn request(mut near: TcpStream, mut far: TcpStream, load: Load) -> anyhow::Result<Report> {
    let properties = Properties { correlation: b"00", ..Properties::default() };
    let message = wire::publish("", b"bench-requests", properties, &body(load.size));
    let meter = RefCell::new(Meter::new(WARMUP, load.duration, None)?);
    let answer = async {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = far.read(&mut buffer).await?;
            far.write_all(&buffer[..count]).await?;
            if count == 0 {
                return anyhow::Ok(());
            }
        }
    };
    // Answers come in the order of the requests.
    let ask = async {
        let mut sent: std::collections::VecDeque<Instant> = std::iter::repeat_n(now(), load.window).collect();
        near.write_all(&message.repeat(load.window)).await?;
        let (mut buffer, mut bytes) = (vec![0; READ_BYTES], 0);
        while !sent.is_empty() {
            bytes += near.read(&mut buffer).await?;
            let at = now();
            let answered = (bytes / message.len()).min(sent.len());
            bytes %= message.len();
            let over = {
                let mut meter = meter.borrow_mut();
                sent.drain(..answered).for_each(|since| meter.note(since, at, 1));
                meter.is_over(at)
            };
            if !over {
                sent.extend(std::iter::repeat_n(at, answered));
                near.write_all(&message.repeat(answered)).await?;
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        asked = ask => asked?,
        answered = answer => answered?,
    }
    meter.into_inner().finish("amqp-relay-request")
}
