//! A provider between us and the node, which refuses or forges what it likes.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Changes an answer; `None`: the question does not get to the node, and this is the answer.
pub(super) type Forge = Box<dyn Fn(&Value, Option<Value>) -> Option<Value> + Send + Sync>;

/// Lets everything pass.
pub(super) fn honest() -> Forge {
    Box::new(|_, answer| answer)
}

/// Answers `method` with what `change` makes of the result.
pub(super) fn changed(method: &'static str, change: impl Fn(&mut Value) + Send + Sync + 'static) -> Forge {
    Box::new(move |question, answer| {
        let mut answer = answer?;
        if question["method"] == method {
            change(&mut answer["result"]);
        }
        Some(answer)
    })
}

/// What a node says to what it does not have.
pub(super) fn refusal(code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": code, "message": message } })
}

pub(super) struct Proxy {
    pub(super) url: String,
    forge: Arc<Mutex<Arc<Forge>>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(super) async fn start(node: &str, forge: Forge) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let forge = Arc::new(Mutex::new(Arc::new(forge)));
        let (shared, node) = (forge.clone(), node.to_owned());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(question) = read(&mut stream).await else { continue };
                let forge = shared.lock().unwrap().clone();
                let answer = match forge(&question, None) {
                    Some(answer) => answer,
                    None => {
                        let request = http.post(&node).header("content-type", "application/json");
                        let answer = request.body(question.to_string()).send().await.unwrap().bytes().await.unwrap();
                        forge(&question, serde_json::from_slice(&answer).ok()).unwrap()
                    }
                };
                let body = answer.to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                // Whoever asked may be gone.
                let _written = stream.write_all([head, body].concat().as_bytes()).await;
            }
        });
        Self { url, forge, task }
    }

    pub(super) fn now(&self, forge: Forge) {
        *self.forge.lock().unwrap() = Arc::new(forge);
    }
}

async fn read(stream: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
        if bytes.len() >= end + 4 + length {
            return serde_json::from_slice(&bytes[end + 4..]).ok();
        }
    }
}
