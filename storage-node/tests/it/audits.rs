//! Answers to possession audits: signed, about what stands on the drive now, whatever that is.

use std::sync::Arc;

use bytes::Bytes;
use stele_evidence::audit::answer::{Answer, AnswerKey, Challenge, Judged, judge};
use stele_evidence::audit::challenge::{AuditId, Seed};
use stele_evidence::audit::inventory::Row;
use stele_evidence::keys::{Ed25519Signer, Signer};
use stele_evidence::vkey::KeyName;
use stele_rpc::error::Code;
use stele_rpc::storage::{ShardChallenge, StorageReply, StorageRequest};
use stele_storage_node::exec::Executor;
use stele_storage_node::node::Answers;
use stele_types::ids::{NodeId, PackId, PgId, ShardRoot};
use stele_types::seam::Clock;

use crate::world::{TestPack, World, drive_id, formatted_disk, small_drive, test_pack, virtual_time};

const NOW: u64 = 1_790_000_000_000;

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn unix_millis(&self) -> u64 {
        NOW
    }

    fn monotonic_micros(&self) -> u64 {
        0
    }
}

fn signer() -> Ed25519Signer {
    Ed25519Signer::for_audit_answers(KeyName::new("stele/test/node/1").unwrap(), &[7; 32])
}

fn challenge(pack: &TestPack, group: u32) -> ShardChallenge {
    ShardChallenge {
        audit: [1; 16],
        seed: [2; 32],
        drive: drive_id(0),
        pack: pack.id,
        generation: 0,
        shard: 0,
        root: ShardRoot::from_bytes(*pack.encoding.roots[0].as_bytes()),
        len: u32::try_from(pack.shard.len()).unwrap(),
        group,
    }
}

impl World {
    async fn challenged(&self, asked: ShardChallenge) -> Result<Judged, Code> {
        let ask = self.ask(StorageRequest::Challenge(asked), Bytes::new()).await;
        let (reply, slice) = ask.map_err(|error| error.code)?;
        let StorageReply::Answer(answer) = reply else { panic!("{reply:?}") };
        let answer = Answer::decode(&answer).unwrap();
        assert_eq!((answer.time, answer.slice.is_none()), (NOW, slice.is_empty()));
        let row = Row::Shard {
            pack: asked.pack,
            generation: asked.generation,
            slot: asked.shard,
            drive: asked.drive,
            root: asked.root,
            len: asked.len,
        };
        let (audit, seed) = (AuditId(asked.audit), Seed(asked.seed));
        let challenge = Challenge { audit, seed, node: NodeId(1), row, group: asked.group };
        Ok(judge(&challenge, &AnswerKey::new(signer().vkey().clone()).unwrap(), &answer, &slice))
    }
}

#[test]
fn what_is_there_is_proven_and_what_is_not_is_said_and_signed() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::on(&disk, small_drive()).await;
        let packs: Vec<TestPack> = (1..4).map(|n| test_pack(n, 100_000)).collect();
        for pack in &packs {
            world.store(pack).await.unwrap();
        }
        let taken = |asked| world.ask(StorageRequest::TakeChallenge(asked), Bytes::new());
        assert_eq!(taken(challenge(&packs[0], 0)).await.unwrap_err().code, Code::Unreachable, "no key yet");
        world.node.answer_audits(Answers::new(signer(), Arc::new(Stopped), Executor::Tasks));
        assert!(matches!(taken(challenge(&packs[0], 0)).await, Ok((StorageReply::Done, _))));
        for group in 0..7 {
            assert_eq!(world.challenged(challenge(&packs[0], group)).await, Ok(Judged::Holds), "group {group}");
        }
        let asked = challenge(&packs[0], 3);
        for other in [
            ShardChallenge { pack: PackId::from_bytes([9; 32]), ..asked },
            ShardChallenge { drive: drive_id(5), ..asked },
            ShardChallenge { generation: 1, ..asked },
            ShardChallenge { shard: 1, ..asked },
            ShardChallenge { len: asked.len + 16_384, ..asked },
        ] {
            assert_eq!(world.challenged(other).await, Ok(Judged::DoesNotHave), "{other:?}");
        }
        let other_root = ShardChallenge { root: ShardRoot::from_bytes([0; 32]), ..asked };
        assert_eq!(world.challenged(other_root).await, Ok(Judged::WrongData));
        for impossible in [
            ShardChallenge { group: 7, ..asked },
            ShardChallenge { len: 0, ..asked },
            ShardChallenge { len: u32::MAX, ..asked },
            ShardChallenge { shard: 255, ..asked },
        ] {
            assert_eq!(world.challenged(impossible).await, Err(Code::Malformed), "{impossible:?}");
        }
        // A bit somewhere in the shard, wherever the question is.
        assert!(disk.flip("seg-0000000001", 4096 + 4096 + 5, 1));
        let mut verdicts = Vec::new();
        for pack in &packs {
            verdicts.push(world.challenged(challenge(pack, 0)).await);
        }
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Ok(Judged::DoesNotHave)).count(), 1, "{verdicts:?}");
        disk.set_dead(true);
        assert_eq!(world.challenged(asked).await, Ok(Judged::DoesNotHave));
    });
}

#[test]
fn headers_say_how_packs_are_kept() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::on(&disk, small_drive()).await;
        let mut packs: Vec<TestPack> = (1..8).map(|n| test_pack(n, 1000)).collect();
        packs.sort_by_key(|pack| pack.id);
        for pack in &packs {
            world.store(pack).await.unwrap();
        }
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let request = StorageRequest::Encodings { drive: drive_id(0), pg: PgId(0), after, max: 3 };
            let (StorageReply::Encodings { rows, next }, _) = world.ask(request, Bytes::new()).await.unwrap() else {
                panic!("not encodings")
            };
            assert!(rows.len() <= 3);
            found.extend(rows);
            after = next;
            if next.is_none() {
                break;
            }
        }
        let expected: Vec<_> = packs.iter().map(|pack| (pack.id, pack.encoding.clone())).collect();
        assert_eq!(found.into_iter().map(|row| (row.pack, row.encoding)).collect::<Vec<_>>(), expected);
        let other = StorageRequest::Encodings { drive: drive_id(0), pg: PgId(1), after: None, max: 9 };
        let (StorageReply::Encodings { rows, .. }, _) = world.ask(other, Bytes::new()).await.unwrap() else { panic!() };
        assert!(rows.is_empty());
    });
}
