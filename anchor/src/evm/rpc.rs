//! A JSON-RPC client over HTTP. Every answer is bounded in size and time; nothing of an endpoint but its host is
//! ever printed, as providers put secrets into paths.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, Response, Url};
use serde_json::{Value, json};

use crate::chain::backend::ChainError;

/// Longest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest answer with all receipts of a block, in bytes; where there are more they are asked for one by one.
pub const RECEIPTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most endpoints of one chain.
pub const ENDPOINTS_MAX: usize = 8;
const MESSAGE_CHARS_MAX: usize = 300;
const METHOD_NOT_FOUND: i64 = -32601;
/// What EIP-1474 has for a method that is there and not supported.
const METHOD_NOT_SUPPORTED: i64 = -32004;

/// What a node refused, in its own words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Its code.
    pub code: i64,
    /// Its words, cut and without control characters.
    pub message: String,
    /// What a contract said, in hexadecimal.
    pub data: Option<String>,
}

/// A client of one chain. Asks one endpoint until that fails, then the next.
pub struct Rpc {
    http: Client,
    endpoints: Vec<(Url, String)>,
    current: AtomicUsize,
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.endpoints.iter().map(|(_, host)| host);
        f.debug_list().entries(hosts).finish()
    }
}

impl Rpc {
    /// Nothing is asked yet. `timeout`: for one question, with its answer.
    ///
    /// # Errors
    /// [`ChainError::Broken`]: an endpoint is no `http` or `https` URL, or there are none or too many.
    pub fn new(endpoints: &[String], timeout: Duration) -> Result<Self, ChainError> {
        let broken = |why: String| ChainError::Broken(why);
        if endpoints.is_empty() || endpoints.len() > ENDPOINTS_MAX {
            return Err(broken(format!(
                "a chain has 1 to {ENDPOINTS_MAX} endpoints, and {} are given",
                endpoints.len()
            )));
        }
        let parse = |(at, text): (usize, &String)| {
            let parsed = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
            let host = parsed.as_ref().and_then(|url| {
                let host = url.host_str()?;
                Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
            });
            parsed.zip(host).ok_or_else(|| broken(format!("endpoint {} is no http or https URL", at + 1)))
        };
        let endpoints = endpoints.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        // A redirect would carry what is in the path elsewhere, and a proxy of the environment would see it.
        let builder = Client::builder().timeout(timeout).connect_timeout(timeout).no_proxy();
        let http = builder.redirect(reqwest::redirect::Policy::none()).build();
        let http = http.map_err(|error| broken(format!("the HTTP client can't be made: {}", without_url(error))))?;
        Ok(Self { http, endpoints, current: AtomicUsize::new(0) })
    }

    fn endpoint(&self) -> Option<&(Url, String)> {
        self.endpoints.get(self.current.load(Ordering::Relaxed) % self.endpoints.len().max(1))
    }

    /// Host of the endpoint that is asked now.
    pub fn host(&self) -> String {
        self.endpoint().map(|(_, host)| host.clone()).unwrap_or_default()
    }

    /// Turns to the next endpoint: this one can't be used now.
    pub fn turn(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks. The inner error is the node's refusal.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`]: no answer, or none that is JSON-RPC; the next question goes to the next endpoint.
    pub async fn ask(&self, method: &'static str, params: Value) -> Result<Result<Value, Fault>, ChainError> {
        let asked = self.exchange(method, params).await;
        if asked.is_err() {
            self.turn();
        }
        asked
    }

    async fn exchange(&self, method: &'static str, params: Value) -> Result<Result<Value, Fault>, ChainError> {
        let Some((url, host)) = self.endpoint() else { return Err(ChainError::Broken("no endpoint".to_owned())) };
        let unreachable = |why: String| ChainError::Unreachable { endpoint: host.clone(), method, why };
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = self.http.post(url.clone()).header("content-type", "application/json").body(body);
        let response = request.send().await.map_err(|error| unreachable(without_url(error)))?;
        let status = response.status();
        let max = if method == "eth_getBlockReceipts" { RECEIPTS_BYTES_MAX } else { ANSWER_BYTES_MAX };
        let bytes = bounded(response, max).await.map_err(unreachable)?;
        let answer: Option<Value> = serde_json::from_slice(&bytes).ok();
        let Some(Value::Object(mut answer)) = answer else {
            return Err(unreachable(format!("HTTP status {}, and no JSON-RPC", status.as_u16())));
        };
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            return Ok(Err(fault(error)));
        }
        answer.remove("result").map(Ok).ok_or_else(|| unreachable("neither a result nor an error".to_owned()))
    }

    /// Asks, where a refusal is nothing that the caller can use.
    ///
    /// # Errors
    /// As [`Self::ask`], [`ChainError::Unsupported`], and [`ChainError::Refused`].
    pub async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        self.ask(method, params).await?.map_err(|fault| self.refused(method, fault))
    }

    /// Asks what not every node can answer; `None`: this one can't.
    ///
    /// # Errors
    /// As [`Self::ask`]. Whatever the node refuses counts as not supported.
    pub async fn probe(&self, method: &'static str, params: Value) -> Result<Option<Value>, ChainError> {
        Ok(self.ask(method, params).await?.ok().filter(|value| !value.is_null()))
    }

    /// A refusal as an error.
    pub fn refused(&self, method: &'static str, fault: Fault) -> ChainError {
        let endpoint = self.host();
        match fault.code {
            METHOD_NOT_FOUND | METHOD_NOT_SUPPORTED => ChainError::Unsupported { endpoint, method },
            code => ChainError::Refused { endpoint, method, code, message: fault.message },
        }
    }

    /// An answer that can't be true; the next question goes to the next endpoint.
    pub fn lying(&self, what: impl Into<String>) -> ChainError {
        let endpoint = self.host();
        self.turn();
        ChainError::Lying { endpoint, what: what.into() }
    }
}

fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    printable(&text)
}

fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

fn fault(error: &Value) -> Fault {
    let message = error.get("message").and_then(Value::as_str).unwrap_or("no message");
    // Nodes differ in where they put what the contract said.
    let data = [error.pointer("/data"), error.pointer("/data/data"), error.pointer("/data/result")];
    let data = data.into_iter().flatten().find_map(Value::as_str).map(str::to_owned);
    let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
    Fault { code, message: printable(message), data }
}

async fn bounded(mut response: Response, max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(without_url)? {
        if bytes.len() + chunk.len() > max {
            return Err(format!("an answer of more than {max} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
