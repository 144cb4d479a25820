//! Orders the calls of tools in a stream. A message's blocks are written one after the other, while other dialects may mix
//! the arguments of parallel calls: a call's block ends when its arguments are complete, and until then the next call waits.

use std::collections::VecDeque;

/// Calls that have begun.
#[derive(Debug, Default)]
pub(super) struct CallQueue {
    /// The first one is written, the others wait.
    calls: VecDeque<Call>,
}

#[derive(Debug)]
pub(super) struct Call {
    /// Its place among the calls of the choice.
    pub(super) place: u64,
    pub(super) id: String,
    pub(super) name: String,
    /// Arguments that are not written yet.
    pub(super) unwritten: String,
    /// Whether its block has begun.
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
        self.calls.push_back(Call { place, id, name, unwritten, begun, end });
    }

    /// Adds arguments. Those of a call that has ended are dropped: nothing but white space can follow its object.
    pub(super) fn extend(&mut self, place: u64, json: &str) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.place == place) {
            call.unwritten.push_str(json);
            call.end.scan(json);
        }
    }

    /// The call whose turn it is.
    pub(super) fn current(&mut self) -> Option<&mut Call> {
        self.calls.front_mut()
    }

    /// Ends the current call where its arguments are complete and another one waits, or where `all` of them end.
    pub(super) fn next(&mut self, all: bool) -> bool {
        let is_over =
            all || (self.calls.len() > 1 && self.calls.front().is_some_and(|call| call.end.is_complete()));
        is_over && self.calls.pop_front().is_some()
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
