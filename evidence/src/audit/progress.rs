//! How one challenge goes: from the first question to a verdict. Pure: times and deadlines are inputs. A node that is
//! away is not punished, or every restart would be; a node that took the question and then said nothing is asked the
//! very same again, or silence would be a way around questions that it can't answer.

use stele_types::seam::UnixMillis;

use super::answer::Judged;

/// How a challenge ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u64)]
pub enum Verdict {
    /// A signed answer with the right bytes.
    Ok = 0,
    /// The node never took the question: says nothing about what it holds.
    Offline = 1,
    /// It took the question and did not answer, however often it was asked; the next audit begins with the same
    /// challenge.
    Contained = 2,
    /// Wrong bytes, or it said that it does not have them.
    Failed = 3,
}

impl Verdict {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Offline, Self::Contained, Self::Failed];

    /// The verdict with this number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| *verdict as u64 == number)
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Offline => "offline",
            Self::Contained => "contained",
            Self::Failed => "failed",
        }
    }
}

/// How long to wait, in milliseconds, and how often to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadlines {
    /// From asking until the node takes the question.
    pub accept_ms: u64,
    /// From taking the question until the answer is complete. It bounds what a node can fetch from elsewhere.
    pub answer_ms: u64,
    /// How often the question is asked, at least once.
    pub asks: u32,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The node took the question.
    Accepted,
    /// An answer came, in time or late.
    Answered(Judged),
    /// The connection could not be made, or broke.
    Unreachable,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask: the first time, or the same again.
    Ask,
    /// Wait for the node, and come back at this time at the latest.
    WaitUntil(UnixMillis),
    /// It is over.
    Done(Verdict),
}

/// Where a question stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Asked(UnixMillis),
    Accepted(UnixMillis),
    Done(Verdict),
}

/// One challenge under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    phase: Phase,
    began: UnixMillis,
    ended: UnixMillis,
    asks: u32,
    silent: bool,
}

impl Progress {
    /// A new challenge, to be asked now.
    pub fn start(now: UnixMillis) -> Self {
        Self { phase: Phase::Asked(now), began: now, ended: now, asks: 1, silent: false }
    }

    /// A challenge that an earlier audit left contained, to be asked now. It stays contained until it is answered.
    pub fn resume(now: UnixMillis) -> Self {
        Self { silent: true, ..Self::start(now) }
    }

    /// How often it was asked.
    pub fn asks(&self) -> u32 {
        self.asks
    }

    /// Milliseconds from the first question to the verdict; 0 before it.
    pub fn latency_ms(&self) -> u64 {
        self.ended.saturating_sub(self.began)
    }

    /// The verdict, once there is one.
    pub fn verdict(&self) -> Option<Verdict> {
        if let Phase::Done(verdict) = self.phase { Some(verdict) } else { None }
    }

    /// Takes what happened and says what to do. After the verdict nothing changes any more.
    pub fn on(&mut self, event: Event, now: UnixMillis, deadlines: &Deadlines) -> Step {
        match (self.phase, event) {
            (Phase::Done(verdict), _) => Step::Done(verdict),
            (_, Event::Answered(Judged::Holds)) => self.end(Verdict::Ok, now),
            (_, Event::Answered(_)) => self.end(Verdict::Failed, now),
            (Phase::Asked(_), Event::Accepted) => {
                self.phase = Phase::Accepted(now);
                Step::WaitUntil(now.saturating_add(deadlines.answer_ms))
            }
            (_, Event::Unreachable) => self.again(now, deadlines),
            (Phase::Asked(_) | Phase::Accepted(_), Event::Tick | Event::Accepted) => {
                let until = self.deadline(deadlines);
                if now >= until { self.again(now, deadlines) } else { Step::WaitUntil(until) }
            }
        }
    }

    fn deadline(&self, deadlines: &Deadlines) -> UnixMillis {
        match self.phase {
            Phase::Asked(since) => since.saturating_add(deadlines.accept_ms),
            Phase::Accepted(since) => since.saturating_add(deadlines.answer_ms),
            Phase::Done(_) => UnixMillis::MAX,
        }
    }

    /// This question brought nothing: ask the same again, or give up for now.
    fn again(&mut self, now: UnixMillis, deadlines: &Deadlines) -> Step {
        self.silent |= matches!(self.phase, Phase::Accepted(_));
        if self.asks >= deadlines.asks {
            return self.end(if self.silent { Verdict::Contained } else { Verdict::Offline }, now);
        }
        self.asks += 1;
        self.phase = Phase::Asked(now);
        Step::Ask
    }

    fn end(&mut self, verdict: Verdict, now: UnixMillis) -> Step {
        self.phase = Phase::Done(verdict);
        self.ended = now;
        Step::Done(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines { accept_ms: 100, answer_ms: 1000, asks: 3 };

    fn run(mut progress: Progress, events: &[(UnixMillis, Event, Step)]) -> Progress {
        for (at, (now, event, expected)) in events.iter().enumerate() {
            assert_eq!(progress.on(*event, *now, &DEADLINES), *expected, "event {at}");
        }
        progress
    }

    #[test]
    fn an_answer_in_time() {
        let done = run(
            Progress::start(5000),
            &[
                (5050, Event::Tick, Step::WaitUntil(5100)),
                (5060, Event::Accepted, Step::WaitUntil(6060)),
                (5070, Event::Accepted, Step::WaitUntil(6060)),
                (5090, Event::Answered(Judged::Holds), Step::Done(Verdict::Ok)),
                (9999, Event::Answered(Judged::WrongData), Step::Done(Verdict::Ok)),
            ],
        );
        assert_eq!((done.verdict(), done.latency_ms(), done.asks()), (Some(Verdict::Ok), 90, 1));
    }

    #[test]
    fn a_node_that_is_away_is_offline() {
        let done = run(
            Progress::start(0),
            &[
                (100, Event::Tick, Step::Ask),
                (150, Event::Unreachable, Step::Ask),
                (200, Event::Tick, Step::WaitUntil(250)),
                (250, Event::Tick, Step::Done(Verdict::Offline)),
            ],
        );
        assert_eq!((done.asks(), done.latency_ms()), (3, 250));
    }

    #[test]
    fn silence_after_taking_the_question_is_contained_and_going_away_does_not_help() {
        let silent = [
            (10, Event::Accepted, Step::WaitUntil(1010)),
            (1009, Event::Tick, Step::WaitUntil(1010)),
            (1010, Event::Tick, Step::Ask),
            (1011, Event::Unreachable, Step::Ask),
            (1012, Event::Unreachable, Step::Done(Verdict::Contained)),
        ];
        assert_eq!(run(Progress::start(0), &silent).asks(), 3);
        let broke = [
            (10, Event::Accepted, Step::WaitUntil(1010)),
            (11, Event::Unreachable, Step::Ask),
            (111, Event::Tick, Step::Ask),
            (211, Event::Tick, Step::Done(Verdict::Contained)),
        ];
        run(Progress::start(0), &broke);
        // Nor does being away for the whole of the next audit.
        let away = [
            (9000, Event::Unreachable, Step::Ask),
            (9001, Event::Unreachable, Step::Ask),
            (9002, Event::Unreachable, Step::Done(Verdict::Contained)),
        ];
        run(Progress::resume(9000), &away);
    }

    #[test]
    fn the_same_question_may_be_answered_late() {
        let contained = [(10, Event::Accepted, Step::WaitUntil(1010)), (1010, Event::Tick, Step::Ask)];
        for (judged, verdict) in [
            (Judged::Holds, Verdict::Ok),
            (Judged::DoesNotHave, Verdict::Failed),
            (Judged::WrongData, Verdict::Failed),
            (Judged::NotSigned, Verdict::Failed),
        ] {
            let mut progress = run(Progress::start(0), &contained);
            assert_eq!(progress.on(Event::Answered(judged), 1500, &DEADLINES), Step::Done(verdict));
            assert_eq!((progress.latency_ms(), progress.asks()), (1500, 2));
        }
    }

    #[test]
    fn a_clock_that_goes_back_only_waits() {
        let mut progress = Progress::start(5000);
        assert_eq!(progress.on(Event::Tick, 10, &DEADLINES), Step::WaitUntil(5100));
        assert_eq!(progress.on(Event::Answered(Judged::Holds), 10, &DEADLINES), Step::Done(Verdict::Ok));
        assert_eq!(progress.latency_ms(), 0);
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::from_number(verdict as u64), Some(verdict));
        }
        assert_eq!(Verdict::from_number(4), None);
    }
}
