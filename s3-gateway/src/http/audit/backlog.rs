//! Lines that wait to be written. Bounded in bytes; what does not fit is counted, and the gap is told. Pure.

/// Most bytes that wait: a bulk deletion of 1,000 of the longest keys fits, and bursts of some ten thousand requests.
pub const BACKLOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Room in the backlog that nobody else can take. Give it back when it is no longer needed. A line that comes with
/// none may be lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Room(usize);

impl Room {
    /// Joins two rooms.
    pub fn add(&mut self, more: Self) {
        self.0 += more.0;
    }
}

/// What the writer takes at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Whole lines.
    pub bytes: Vec<u8>,
    /// How many.
    pub lines: u64,
    /// Lines that were lost since the batch before; tell before these.
    pub lost: u64,
}

/// The lines.
#[derive(Debug)]
pub struct Backlog {
    most: usize,
    waiting: Batch,
    /// Bytes of a batch that was taken and is not yet written.
    taken: usize,
    reserved: usize,
}

impl Backlog {
    /// An empty one of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { most, waiting: Batch::default(), taken: 0, reserved: 0 }
    }

    /// Bytes that wait, those being written included.
    pub fn bytes(&self) -> usize {
        self.waiting.bytes.len() + self.taken
    }

    fn free(&self) -> usize {
        self.most.saturating_sub(self.bytes() + self.reserved)
    }

    /// Room for lines to come.
    pub fn reserve(&mut self, bytes: usize) -> Option<Room> {
        if bytes > self.free() {
            return None;
        }
        self.reserved += bytes;
        Some(Room(bytes))
    }

    /// Gives room back.
    pub fn release(&mut self, room: Room) {
        self.reserved = self.reserved.saturating_sub(room.0);
    }

    /// Adds a line, in its room or else where there is some. False: it is lost, and counted.
    pub fn push(&mut self, line: &[u8], room: &mut Room) -> bool {
        let used = room.0.min(line.len());
        let (from_room, rest) = (used, line.len() - used);
        if rest > self.free() {
            self.waiting.lost += 1;
            return false;
        }
        room.0 -= from_room;
        self.reserved = self.reserved.saturating_sub(from_room);
        self.waiting.bytes.extend_from_slice(line);
        self.waiting.lines += 1;
        true
    }

    /// Takes all that waits. The batch before must be [`Self::written`].
    pub fn take(&mut self) -> Option<Batch> {
        if self.waiting == Batch::default() {
            return None;
        }
        let batch = std::mem::take(&mut self.waiting);
        self.taken = batch.bytes.len();
        Some(batch)
    }

    /// The batch taken last is written.
    pub fn written(&mut self) {
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_told_once() {
        let mut backlog = Backlog::new(10);
        assert!(backlog.push(b"12345\n", &mut Room::default()));
        assert!(!backlog.push(b"12345\n", &mut Room::default()));
        assert!(!backlog.push(b"12345\n", &mut Room::default()));
        let batch = backlog.take().unwrap();
        assert_eq!((batch.bytes.as_slice(), batch.lines, batch.lost), (b"12345\n".as_slice(), 1, 2));
        assert!(!backlog.push(b"12345\n", &mut Room::default()), "what is being written still counts");
        backlog.written();
        assert!(backlog.push(b"12345\n", &mut Room::default()));
        assert_eq!(backlog.take().unwrap().lost, 1);
        backlog.written();
        assert_eq!(backlog.take(), None);
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn a_line_with_room_is_never_lost() {
        let mut backlog = Backlog::new(10);
        let mut room = backlog.reserve(8).unwrap();
        assert_eq!(backlog.reserve(3), None);
        assert!(!backlog.push(b"abc", &mut Room::default()), "the room is taken");
        assert!(backlog.push(b"12345\n", &mut room));
        backlog.release(room);
        assert!(backlog.push(b"abcd", &mut Room::default()), "what was not used is free again");
        assert_eq!(backlog.take().unwrap().bytes, b"12345\nabcd");
    }

    proptest::proptest! {
        #[test]
        fn it_is_bounded_and_every_line_is_written_or_counted(steps in proptest::collection::vec((0usize..4, 1usize..40), 0..200)) {
            const MOST: usize = 100;
            let mut backlog = Backlog::new(MOST);
            let (mut pushed, mut written, mut lost, mut rooms) = (0u64, 0u64, 0u64, Vec::new());
            for (step, size) in steps {
                match step {
                    0 => { backlog.push(&vec![b'x'; size], &mut Room::default()); pushed += 1; }
                    1 => rooms.extend(backlog.reserve(size)),
                    2 => if let Some(mut room) = rooms.pop() {
                        let fits = vec![b'x'; room.0];
                        assert!(backlog.push(&fits, &mut room));
                        backlog.release(room);
                        pushed += 1;
                    },
                    _ => if let Some(batch) = backlog.take() {
                        written += batch.lines;
                        lost += batch.lost;
                        backlog.written();
                    },
                }
                assert!(backlog.bytes() + backlog.reserved <= MOST);
            }
            let last = backlog.take().unwrap_or_default();
            assert_eq!(pushed, written + lost + last.lines + last.lost);
        }
    }
}
