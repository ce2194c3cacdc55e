//! Protocol limits. Operators can't change them; each relation that code relies on is asserted here.

/// One kibibyte.
pub const KIB: usize = 1024;
/// One mebibyte.
pub const MIB: usize = 1024 * KIB;

/// Smallest chunk cut by content, bytes. The last chunk of a body may be shorter.
pub const CHUNK_BYTES_MIN: usize = 256 * KIB;
/// Average chunk, bytes. A power of two, as fastcdc's contract asks.
pub const CHUNK_BYTES_AVERAGE: usize = MIB;
/// Largest chunk, bytes.
pub const CHUNK_BYTES_MAX: usize = 4 * MIB;

/// Most payload bytes in a pack, chunk list included.
pub const PACK_BYTES_MAX: usize = 64 * MIB;
/// Most chunks in a pack.
pub const PACK_CHUNKS_MAX: usize = 4096;
/// Bodies up to this size share packs; larger ones fill packs of their own.
pub const SHARED_PACK_BODY_BYTES_MAX: usize = 8 * MIB;

/// Shard lengths are multiples of this.
pub const SHARD_ALIGN: usize = 16 * KIB;
/// Smallest shard for which a larger k' is chosen.
pub const SHARD_BYTES_MIN_FOR_SPLIT: usize = 256 * KIB;
/// Most shards of one pack.
pub const SHARDS_MAX: usize = 32;

/// Bytes of shard payload covered by one CRC32C.
pub const SHARD_CRC_BYTES: usize = 64 * KIB;
/// Segment records begin and end at multiples of this (O_DIRECT).
pub const SEGMENT_ALIGN: usize = 4 * KIB;

/// Chunks a version row holds inline.
pub const MANIFEST_INLINE_CHUNKS: usize = 2;
/// Entries of one manifest page or index page. A power of two, so that a page is a complete subtree.
pub const MANIFEST_PAGE_ENTRIES: usize = 1024;

/// Largest raft entry, bytes.
pub const RAFT_ENTRY_BYTES_MAX: usize = MIB;

/// Longest object key, bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1024;
/// User metadata of one object, bytes of names and values.
pub const USER_METADATA_BYTES_MAX: usize = 2 * KIB;
/// Most tags of one object.
pub const OBJECT_TAGS_MAX: usize = 10;
/// Most tags of one bucket.
pub const BUCKET_TAGS_MAX: usize = 50;
/// Longest tag key, Unicode characters.
pub const TAG_KEY_CHARS_MAX: usize = 128;
/// Longest tag value, Unicode characters.
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// Largest body of one PutObject or UploadPart.
pub const PUT_BODY_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Largest object.
pub const OBJECT_BYTES_MAX: u64 = 50 * 1024 * 1024 * 1024 * 1024;
/// Smallest part except the last.
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Highest part number.
pub const PART_NUMBER_MAX: u16 = 10_000;
/// Most rows in one page of any listing.
pub const LIST_PAGE_MAX: usize = 1000;

/// Largest typed part of one call or answer between processes, bytes of MessagePack.
pub const RPC_HEADER_BYTES_MAX: usize = 8 * MIB;
/// Most bulk bytes beside one call or answer: a shard that is a whole pack.
pub const RPC_BODY_BYTES_MAX: usize = PACK_BYTES_MAX;
/// Largest join request or reply, bytes.
pub const JOIN_BYTES_MAX: usize = 64 * KIB;
/// Longest join token, bytes of text.
pub const JOIN_TOKEN_BYTES_MAX: usize = 8 * KIB;

const _: () = assert!(CHUNK_BYTES_AVERAGE.is_power_of_two());
const _: () = assert!(CHUNK_BYTES_MIN.is_multiple_of(2) && CHUNK_BYTES_MAX.is_multiple_of(2));
const _: () = assert!(CHUNK_BYTES_MIN < CHUNK_BYTES_AVERAGE && CHUNK_BYTES_AVERAGE < CHUNK_BYTES_MAX);
// A pack of its own always has room for the largest chunk and its list.
const _: () = assert!(PACK_BYTES_MAX >= SHARED_PACK_BODY_BYTES_MAX + CHUNK_BYTES_MAX);
// Shards written from one aligned buffer stay aligned for O_DIRECT.
const _: () = assert!(SHARD_ALIGN.is_multiple_of(SEGMENT_ALIGN));
const _: () = assert!(SHARD_CRC_BYTES.is_multiple_of(SHARD_ALIGN));
// Every raft entry fits into a call, with room for what stands around it.
const _: () = assert!(RPC_HEADER_BYTES_MAX >= 2 * RAFT_ENTRY_BYTES_MAX);
// Lengths on the wire are 32 bits; a shard of k' = 1 is a pack rounded up to SHARD_ALIGN.
const _: () = assert!(RPC_BODY_BYTES_MAX < 1 << 31 && PACK_BYTES_MAX.is_multiple_of(SHARD_ALIGN));
// The tags of a bucket fit into one raft entry, at four bytes a character.
const _: () = assert!(BUCKET_TAGS_MAX * 4 * (TAG_KEY_CHARS_MAX + TAG_VALUE_CHARS_MAX) < RAFT_ENTRY_BYTES_MAX / 2);
const _: () = assert!(MANIFEST_PAGE_ENTRIES.is_power_of_two());
const _: () = assert!(MANIFEST_INLINE_CHUNKS < MANIFEST_PAGE_ENTRIES);
