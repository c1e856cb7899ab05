//! A plain WebSocket client: text frames, pings answered, nothing else. (RFC 6455)

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::http::raw;

const TEXT: u8 = 0x81;
const PONG: u8 = 0x8a;

pub(crate) struct Ws {
    stream: BufReader<TcpStream>,
}

impl Ws {
    /// Connects, and reads the welcome.
    pub(crate) fn new(server: &Server) -> Self {
        let mut stream = BufReader::new(raw(server));
        let request = "GET /v1/default/ws HTTP/1.1\r\nHost: posthouse\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(line.contains(" 101 "), "{line}");
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
        }
        let mut client = Self { stream };
        assert!(client.next()["welcome"].is_object());
        client
    }

    pub(crate) fn send(&mut self, frame: &Value) {
        self.write(TEXT, frame.to_string().as_bytes());
    }

    /// A client masks what it sends; a mask of zeros changes nothing.
    fn write(&mut self, head: u8, payload: &[u8]) {
        let mut bytes = vec![head];
        match u8::try_from(payload.len()) {
            Ok(len) if len < 126 => bytes.push(0x80 | len),
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(payload);
        self.stream.get_mut().write_all(&bytes).unwrap();
    }

    /// The next frame.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).unwrap();
            let len = match head[1] {
                126 => u64::from(u16::from_be_bytes(self.bytes())),
                127 => u64::from_be_bytes(self.bytes()),
                len => u64::from(len),
            };
            let mut payload = vec![0; usize::try_from(len).unwrap()];
            self.stream.read_exact(&mut payload).unwrap();
            match head[0] & 0x0f {
                1 => return serde_json::from_slice(&payload).unwrap(),
                9 => self.write(PONG, &payload),
                other => panic!("a frame of kind {other}: {payload:?}"),
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Opens a consumer; gives what was answered.
    #[track_caller]
    pub(crate) fn consume(&mut self, queue: &str, credit: u32, options: &Value) -> Value {
        let mut frame = json!({"id": queue, "queue": queue, "credit": credit});
        frame.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        self.send(&json!({ "consume": frame }));
        self.next()
    }

    /// The next frame, which must be a delivery.
    #[track_caller]
    pub(crate) fn delivery(&mut self) -> Value {
        let frame = self.next();
        assert!(frame["delivery"].is_object(), "{frame}");
        frame["delivery"]["delivery"].clone()
    }

    /// Settles a delivery, and reads that it is settled.
    #[track_caller]
    pub(crate) fn settle(&mut self, action: &str, delivery: &Value) {
        let settlement = json!({"receipt": delivery["receipt"], "action": action});
        self.send(&json!({"settle": {"seq": 1, "settlements": [settlement]}}));
        let frame = self.next();
        assert_eq!(frame["settled"]["results"][0]["ok"], json!(true), "{frame}");
    }

    /// Whether nothing is on its way: a ping is answered next.
    #[track_caller]
    pub(crate) fn quiet(&mut self) {
        self.send(&json!({"ping": {"seq": 77}}));
        assert_eq!(self.next(), json!({"pong": {"seq": 77}}));
    }
}
