//! Orders the calls of tools in a stream. A message's blocks and a response's items are written one after the other, while chat
//! completions may mix the arguments of parallel calls: a call ends when its arguments are complete, and until then the next
//! one waits.

use std::collections::VecDeque;

/// The most that waits, in bytes and in calls. A model writes far less; beyond it the first call ends as it is.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
const MAX_WAITING_CALLS: usize = 256;

/// Calls that have begun.
#[derive(Debug, Default)]
pub(super) struct CallQueue {
    /// The first one is written, the others wait.
    calls: VecDeque<Call>,
    /// Bytes that have arrived of calls that wait.
    waiting: usize,
}

#[derive(Debug)]
pub(super) struct Call {
    /// Its place among the calls of the choice.
    pub(super) place: u64,
    pub(super) id: String,
    pub(super) name: String,
    /// Arguments that are not written yet.
    pub(super) unwritten: String,
    /// Whether its block or item has begun.
    pub(super) begun: bool,
    end: ObjectEnd,
}

impl CallQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Adds a call.
    pub(super) fn push(&mut self, place: u64, id: String, name: String) {
        let (unwritten, begun, end) = (String::new(), false, ObjectEnd::default());
        let call = Call { place, id, name, unwritten, begun, end };
        if !self.calls.is_empty() {
            self.waiting = self.waiting.saturating_add(call.held());
        }
        self.calls.push_back(call);
    }

    /// Adds arguments. Those of a call that has ended are dropped: nothing but white space can follow its object.
    pub(super) fn extend(&mut self, place: u64, json: &str) {
        let Some(at) = self.calls.iter().position(|call| call.place == place) else { return };
        if let Some(call) = self.calls.get_mut(at) {
            call.unwritten.push_str(json);
            call.end.scan(json);
        }
        if at > 0 {
            self.waiting = self.waiting.saturating_add(json.len());
        }
    }

    /// The call whose turn it is.
    pub(super) fn current(&mut self) -> Option<&mut Call> {
        self.calls.front_mut()
    }

    /// Ends the current call where its arguments are complete and another one waits, or where `all` of them end.
    pub(super) fn next(&mut self, all: bool) -> bool {
        let is_complete = || self.calls.front().is_some_and(|call| call.end.is_complete());
        let is_too_much = self.waiting > MAX_WAITING_BYTES || self.calls.len() > MAX_WAITING_CALLS;
        if !all && (self.calls.len() < 2 || !(is_complete() || is_too_much)) {
            return false;
        }
        let ended = self.calls.pop_front().is_some();
        self.waiting = self.waiting.saturating_sub(self.calls.front().map_or(0, Call::held));
        ended
    }
}

impl Call {
    /// Bytes that it holds.
    fn held(&self) -> usize {
        self.id.len().saturating_add(self.name.len()).saturating_add(self.unwritten.len())
    }
}

/// Finds the end of a JSON object in pieces of its text.
#[derive(Debug, Default)]
struct ObjectEnd {
    depth: u64,
    in_string: bool,
    escaped: bool,
    ended: bool,
}

impl ObjectEnd {
    fn scan(&mut self, json: &str) {
        for byte in json.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth = self.depth.saturating_add(1),
                b'}' | b']' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    self.ended = self.depth == 0;
                }
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.ended && self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_calls_are_bounded() {
        let mut queue = CallQueue::default();
        queue.push(0, "a".into(), "f".into());
        queue.extend(0, "{\"never\": ");
        queue.push(1, "b".into(), "f".into());
        queue.extend(1, &"x".repeat(MAX_WAITING_BYTES - 2));
        assert!(!queue.next(false));
        queue.extend(1, "x");
        assert!(queue.next(false), "the first call ends");
        assert_eq!((queue.current().unwrap().place, queue.waiting), (1, 0));
        for place in 2..300 {
            queue.push(place, String::new(), String::new());
        }
        let mut ended = 0;
        while queue.next(false) {
            ended += 1;
        }
        assert_eq!((ended, queue.calls.len()), (299 - MAX_WAITING_CALLS, MAX_WAITING_CALLS));
    }
}
