//! What was measured against what was promised: one row per promise, whether it holds or not.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// All that one run of `cargo xtask bench` measured.
#[derive(Default)]
pub(super) struct Measured {
    /// Rows of the crates' examples.
    pub(super) crates: Vec<Value>,
    /// Title and rows of each run over HTTP.
    pub(super) http: Vec<(&'static str, Vec<Value>)>,
}

/// Fields and the values that they must have.
type Match<'a> = [(&'a str, &'a str)];

fn field<'a>(rows: &'a [Value], wanted: &Match<'_>, name: &str) -> Result<&'a Value> {
    let has = |row: &&Value| {
        wanted.iter().all(|(field, value)| {
            let text = row[*field].as_str().map_or_else(|| row[*field].to_string(), str::to_owned);
            text == *value
        })
    };
    let row = rows.iter().find(has).with_context(|| format!("no row with {wanted:?}"))?;
    row.get(name).with_context(|| format!("no {name} in the row with {wanted:?}"))
}

fn number(rows: &[Value], wanted: &Match<'_>, name: &str) -> Result<f64> {
    field(rows, wanted, name)?.as_f64().with_context(|| format!("{name} is not a number"))
}

fn at_most(claim: &str, value: f64, bound: f64) -> Value {
    json!({ "claim": claim, "value": value, "at_most": bound, "holds": value <= bound })
}

const PUT: (&str, &str) = ("op", "put");
const GET: (&str, &str) = ("op", "get");
const SMALL: (&str, &str) = ("size", "4KiB");
const LARGE: (&str, &str) = ("size", "64MiB");
const ONE: (&str, &str) = ("clients", "1");
const MANY: (&str, &str) = ("clients", "64");

/// The promises of small and large operations over HTTP.
///
/// # Errors
/// A row is missing.
pub(super) fn targets(measured: &Measured) -> Result<Vec<Value>> {
    let stage = |name: &str| number(&measured.crates, &[("stage", name)], "cpu_s_per_gb");
    let (md5, blake3) = (stage("md5")?, stage("blake3 of 1 MiB pieces")?);
    let sync = number(&measured.crates, &[("case", "1 writer, bare write and fdatasync")], "p50_us")?;
    let mut rows = Vec::new();
    for (title, http) in &measured.http {
        let cost = |op, size| number(http, &[op, size, ONE], "server_cpu_s_per_gb");
        if title.contains("signed") {
            rows.push(at_most(
                "CPU of a signed 64 MiB PUT against MD5 of the same bytes",
                cost(PUT, LARGE)? / md5,
                2.7,
            ));
            continue;
        }
        if title.contains("cache off") {
            rows.push(at_most("CPU of a 64 MiB GET from drives against BLAKE3", cost(GET, LARGE)? / blake3, 4.5));
            continue;
        }
        let p50 = |clients| number(http, &[PUT, SMALL, clients], "p50_us");
        let syncs = field(http, &[PUT, SMALL, MANY], "syncs_per_op")?;
        let syncs = syncs.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_f64()).sum();
        rows.push(at_most(&format!("syncs per 4 KiB PUT of 64 clients, {title}"), syncs, 0.3));
        let ratio = p50(MANY)? / p50(ONE)?;
        rows.push(at_most(&format!("p50 of a 4 KiB PUT of 64 clients against one, {title}"), ratio, 3.0));
        if rows.len() == 2 {
            let ping = number(http, &[("op", "ping")], "p50_us")?;
            let ratio = p50(ONE)? / (2.0 * sync + ping);
            rows.push(at_most("p50 of one client's 4 KiB PUT against two bare syncs and a round trip", ratio, 2.5));
            rows.push(at_most("CPU of a 64 MiB PUT against MD5 of the same bytes", cost(PUT, LARGE)? / md5, 2.3));
            rows.push(at_most("CPU of a 64 MiB GET from the cache against BLAKE3", cost(GET, LARGE)? / blake3, 3.0));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_holds_or_not_and_a_missing_row_is_an_error() {
        let stage = |name: &str, cpu: f64| json!({ "stage": name, "cpu_s_per_gb": cpu });
        let sync = json!({ "case": "1 writer, bare write and fdatasync", "p50_us": 300 });
        let crates = vec![stage("md5", 2.0), stage("blake3 of 1 MiB pieces", 0.3), sync];
        let put = json!({ "op": "put", "size": "64MiB", "clients": 1, "server_cpu_s_per_gb": 5.0 });
        let mut measured = Measured { crates, http: vec![("signed payloads", vec![put])] };
        assert_eq!(targets(&measured).unwrap()[0]["holds"], true);
        measured.crates[0] = stage("md5", 1.0);
        assert_eq!(targets(&measured).unwrap()[0]["holds"], false);
        measured.http[0].0 = "drives as they are";
        assert!(targets(&measured).is_err());
    }
}
