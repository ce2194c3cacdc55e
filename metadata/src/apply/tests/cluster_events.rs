//! Events about the cluster itself: logged once, chained by subject, and never without a salt.

use stele_evidence::record::{CLUSTER, CLUSTER_ID, Entry, Event, Record};
use stele_rpc::meta::{
    ANSWER_KEY_BYTES_MAX, AuditStep, AuditStepKind, KeyEvent, LogCommand, LogRead, LogReply, RangeRef,
};
use stele_types::ids::LogIndex;

use super::*;
const KEY: &str = "stele/7/node/2+01234567+/w==";

fn begun(audit: u8, digest: u8, spacing_ms: Option<u64>) -> Command {
    let kind = AuditStepKind::Begun { spacing_ms };
    Command::Log(LogCommand::Audit(AuditStep { audit: [audit; 16], kind, digest: [digest; 32] }))
}

fn report(audit: u8, digest: u8) -> Command {
    let kind = AuditStepKind::Report;
    Command::Log(LogCommand::Audit(AuditStep { audit: [audit; 16], kind, digest: [digest; 32] }))
}

fn logged(m: &mut Machine, command: Command) -> Result<u64, Code> {
    match m.cluster(command) {
        Ok(MetaReply::Log(LogReply::Logged(index))) => Ok(index.0),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

fn log_size(m: &Machine) -> u64 {
    match m.read(&MetaRequest::Status) {
        Ok(MetaReply::Status(status)) => status.log_size,
        other => panic!("{other:?}"),
    }
}

/// Newest first.
fn events(m: &Machine, subject: &str) -> Vec<KeyEvent> {
    let (range, before, max) = (RangeRef::CLUSTER, None, 9);
    match m.read(&MetaRequest::Log(LogRead::KeyEvents { range, key: subject.to_owned(), before, max })) {
        Ok(MetaReply::Log(LogReply::KeyEvents(events))) => events,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_audit_is_two_chained_entries_however_often_it_is_told() {
    let mut m = Machine::new();
    let size = log_size(&m);
    assert_eq!(logged(&mut m, report(1, 9)), Err(Code::Malformed), "never begun");
    for _ in 0..3 {
        assert_eq!(logged(&mut m, begun(1, 8, None)), Ok(size));
    }
    assert_eq!(logged(&mut m, begun(1, 7, None)), Err(Code::Malformed), "other inventories");
    for _ in 0..3 {
        assert_eq!(logged(&mut m, report(1, 9)), Ok(size + 1));
    }
    assert_eq!(logged(&mut m, begun(1, 8, None)), Err(Code::Malformed), "it ended");
    assert_eq!(logged(&mut m, report(1, 10)), Ok(size + 2), "a silent node has answered");
    assert_eq!(logged(&mut m, begun(2, 8, None)), Ok(size + 3));
    assert_eq!(log_size(&m), size + 4);

    let subject = format!("audit/{}", "01".repeat(16));
    let found = events(&m, &subject);
    let records: Vec<Record> = found.iter().map(|event| Record::decode(&event.record.record).unwrap()).collect();
    let told: Vec<_> = records.iter().map(|r| (r.event, r.key_event, r.previous, r.digest)).collect();
    let at = |n| Some(LogIndex(size + n));
    assert_eq!(
        told,
        [
            (Event::AuditReport, 2, at(1), Some([10; 32])),
            (Event::AuditReport, 1, at(0), Some([9; 32])),
            (Event::AuditBegun, 0, None, Some([8; 32])),
        ]
    );
    for (event, record) in found.iter().zip(&records) {
        assert_eq!((record.bucket.as_str(), record.bucket_id, &record.key), (CLUSTER, CLUSTER_ID, &subject));
        let entry = Entry::new(&event.record.salt.unwrap(), &event.record.record);
        match m.read(&MetaRequest::Log(LogRead::Entries { from: event.index, max: 1 })) {
            Ok(MetaReply::Log(LogReply::Entries(bytes))) => assert_eq!(bytes, entry.0[..]),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn audits_that_run_by_themselves_keep_their_distance() {
    let mut m = Machine::new();
    m.now = 5000;
    assert!(logged(&mut m, begun(1, 1, Some(1000))).is_ok());
    m.now = 5999;
    assert_eq!(logged(&mut m, begun(2, 1, Some(1000))), Err(Code::Busy));
    assert!(logged(&mut m, begun(1, 1, Some(1000))).is_ok(), "a repeat");
    assert!(logged(&mut m, begun(3, 1, None)).is_ok(), "somebody asked for it");
    m.now = 6000;
    assert!(logged(&mut m, begun(2, 1, Some(1000))).is_ok());
}

#[test]
fn what_is_done_to_the_cluster_is_not_done_without_a_salt() {
    let mut m = Machine::new();
    let size = log_size(&m);
    let key = || Command::SetAnswerKey { node: NodeId(2), key: KEY.into() };
    for command in [begun(1, 1, None), key()] {
        let without = CommandEnvelope { salt: None, ..envelope(None, 0, 0, command) };
        assert_eq!(m.apply(&without).unwrap_err().code, Code::Malformed);
    }
    assert_eq!((log_size(&m), m.read(&MetaRequest::AnswerKeys).unwrap()), (size, MetaReply::AnswerKeys(vec![])));
    assert!(m.cluster(key()).is_ok());
    assert_eq!(log_size(&m), size + 1);
}

#[test]
fn the_first_key_of_a_node_stays() {
    let mut m = Machine::new();
    let set = |m: &mut Machine, node, key: &str| {
        m.cluster(Command::SetAnswerKey { node: NodeId(node), key: key.to_owned() }).map_err(|error| error.code)
    };
    assert_eq!(set(&mut m, 2, KEY), Ok(MetaReply::Done));
    let size = log_size(&m);
    assert_eq!(set(&mut m, 2, KEY), Ok(MetaReply::Done));
    assert_eq!(set(&mut m, 2, "stele/7/node/2+89abcdef+/w=="), Err(Code::Forbidden));
    for wrong in [String::new(), "x".repeat(ANSWER_KEY_BYTES_MAX + 1), "two\nlines".to_owned()] {
        assert_eq!(set(&mut m, 3, &wrong), Err(Code::Malformed));
    }
    assert_eq!(log_size(&m), size);
    assert_eq!(set(&mut m, 1, "other"), Ok(MetaReply::Done));
    let keys = vec![(NodeId(1), "other".to_owned()), (NodeId(2), KEY.to_owned())];
    assert_eq!(m.read(&MetaRequest::AnswerKeys).unwrap(), MetaReply::AnswerKeys(keys));
    let [act] = &events(&m, "node/2")[..] else { panic!() };
    let record = Record::decode(&act.record.record).unwrap();
    assert_eq!((record.event, record.key_event), (Event::Act, 0));
    assert!(record.detail.ends_with(KEY), "{}", record.detail);
}
