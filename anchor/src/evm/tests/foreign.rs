//! Whatever a node answers is read or refused, and never more than that.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::evm::answer::{Fields, data, hexadecimal, quantity};
use crate::evm::contract::{decode_error, decode_event, decode_head};
use crate::evm::header::rebuild;
use crate::evm::receipt::{Log, Receipt};

fn answer() -> Value {
    let hash = hexadecimal([1; 32]);
    let log = json!({ "address": hexadecimal([2; 20]), "topics": [hash, hash, hash], "data": hexadecimal([3; 96]) });
    json!({
        "transactionHash": hash, "blockHash": hash, "blockNumber": "0x5", "transactionIndex": "0x0", "status": "0x1",
        "type": "0x2", "cumulativeGasUsed": "0x5208", "logsBloom": hexadecimal([0; 256]), "logs": [log],
        "parentHash": hash, "sha3Uncles": hash, "miner": hexadecimal([2; 20]), "stateRoot": hash,
        "transactionsRoot": hash, "receiptsRoot": hash, "difficulty": "0x0", "number": "0x5", "gasLimit": "0x1c9c380",
        "gasUsed": "0x5208", "timestamp": "0x6", "extraData": "0x", "mixHash": hash, "nonce": hexadecimal([0; 8]),
        "baseFeePerGas": "0x7", "withdrawalsRoot": hash, "blobGasUsed": "0x0", "excessBlobGas": "0x0",
    })
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "0x[0-9a-fA-F]{0,70}".prop_map(Value::from),
        proptest::collection::vec("0x[0-9a-f]{0,66}", 0..4).prop_map(Value::from),
        Just(json!([{ "address": {}, "topics": [[]] }])),
        Just(json!({})),
    ]
}

fn read_all(value: &Value) -> (bool, bool) {
    let _unused = (Log::parse(Fields(value)), quantity(value), data(value));
    (Receipt::parse(value).is_ok(), rebuild(Fields(value)).is_ok())
}

#[test]
fn a_true_answer_is_read() {
    assert_eq!(read_all(&answer()), (true, true));
}

/// Of the later fields of a header the first that is missing ends it; every other one has to be there.
#[test]
fn an_answer_that_lacks_a_field_is_refused() {
    let optional = ["type", "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas"];
    let names: Vec<String> = answer().as_object().unwrap().keys().cloned().collect();
    for name in names.iter().filter(|name| !optional.contains(&name.as_str())) {
        let mut lacking = answer();
        lacking.as_object_mut().unwrap().remove(name);
        assert_ne!(read_all(&lacking), (true, true), "{name}");
    }
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(at in any::<prop::sample::Index>(), value in value(), inner in value()) {
        let mut answer = answer();
        let names: Vec<String> = answer.as_object().unwrap().keys().cloned().collect();
        answer[&names[at.index(names.len())]] = value.clone();
        read_all(&answer);
        if let Some(log) = answer.pointer_mut("/logs/0/topics") {
            *log = inner;
        }
        read_all(&answer);
        read_all(&value);
    }

    #[test]
    fn any_word_of_a_contract_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _unused = (decode_head(&bytes), decode_error(&bytes));
        prop_assert_eq!(decode_event(&bytes).is_some() && bytes.len() != 96, false);
    }
}
