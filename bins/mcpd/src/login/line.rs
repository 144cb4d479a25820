//! The waiting line before the hashers: bounded, and fair between parties, so that a party that sends much does not
//! take the places of others.

use std::collections::VecDeque;

/// Items of several parties, taken out in turns. A party is usually a network.
pub struct Line<P, T> {
    parties: VecDeque<(P, VecDeque<T>)>,
    waiting: usize,
    capacity: usize,
}

impl<P: PartialEq, T> Line<P, T> {
    /// An empty line with so many places.
    pub fn new(capacity: usize) -> Self {
        Self { parties: VecDeque::new(), waiting: 0, capacity }
    }

    /// Adds an item at the end of its party's. Where all places are taken, items without a waiter (`gone`) make
    /// room, then the last one of the party that has the most; it is dropped.
    ///
    /// # Errors
    /// The item, where its own party has the most.
    pub fn push(&mut self, party: P, item: T, gone: impl Fn(&T) -> bool) -> Result<(), T> {
        if self.waiting >= self.capacity {
            self.parties.iter_mut().for_each(|(_, items)| items.retain(|item| !gone(item)));
            self.tidy();
        }
        let own = self.parties.iter().position(|(other, _)| *other == party);
        if self.waiting >= self.capacity {
            let items = |at: usize| self.parties.get(at).map_or(0, |(_, items)| items.len());
            let most = (0..self.parties.len()).max_by_key(|at| items(*at));
            match most {
                Some(most) if items(most) > own.map_or(0, items) + 1 => {
                    if let Some((_, items)) = self.parties.get_mut(most) {
                        items.pop_back();
                        self.waiting -= 1;
                    }
                }
                _ => return Err(item),
            }
        }
        match own.and_then(|at| self.parties.get_mut(at)) {
            Some((_, items)) => items.push_back(item),
            None => self.parties.push_back((party, VecDeque::from([item]))),
        }
        self.waiting += 1;
        Ok(())
    }

    /// The next item: the first one of the party whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let (party, mut items) = self.parties.pop_front()?;
        let item = items.pop_front();
        if !items.is_empty() {
            self.parties.push_back((party, items));
        }
        self.waiting -= usize::from(item.is_some());
        item
    }

    fn tidy(&mut self) {
        self.parties.retain(|(_, items)| !items.is_empty());
        self.waiting = self.parties.iter().map(|(_, items)| items.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    fn drain(line: &mut Line<char, u32>) -> Vec<u32> {
        std::iter::from_fn(|| line.pop()).collect()
    }

    #[test]
    fn parties_take_turns() {
        let mut line = Line::new(10);
        for (party, item) in [('a', 1), ('a', 2), ('a', 3), ('b', 4), ('c', 5), ('b', 6)] {
            line.push(party, item, |_| false).unwrap();
        }
        assert_eq!(drain(&mut line), [1, 4, 5, 2, 6, 3]);
        assert_eq!(line.waiting, 0);
    }

    #[test]
    fn a_party_that_fills_the_line_makes_room_for_others() {
        let mut line = Line::new(4);
        for item in 0..4 {
            line.push('a', item, |_| false).unwrap();
        }
        assert_eq!(line.push('a', 4, |_| false), Err(4), "its own item is refused");
        line.push('b', 10, |_| false).unwrap();
        line.push('c', 20, |_| false).unwrap();
        assert_eq!(line.push('b', 11, |_| false), Err(11), "as many as anybody has");
        assert_eq!(drain(&mut line), [0, 10, 20, 1]);
    }

    #[test]
    fn what_nobody_waits_for_makes_room_first() {
        let mut line = Line::new(3);
        for item in 0..3 {
            line.push('a', item, |_| false).unwrap();
        }
        line.push('a', 3, |item| *item < 2).unwrap();
        assert_eq!((line.waiting, drain(&mut line)), (2, vec![2, 3]));
    }

    #[test]
    fn the_line_never_holds_more_than_its_places() {
        let mut line = Line::new(8);
        for item in 0..1000_u32 {
            let party = char::from(b'a' + u8::try_from(item * item % 7).unwrap());
            let _ = line.push(party, item, |item| item % 11 == 0);
            if item % 5 == 0 {
                line.pop();
            }
            let held: usize = line.parties.iter().map(|(_, items)| items.len()).sum();
            assert!(held == line.waiting && held <= 8, "{held}");
            assert!(line.parties.iter().all(|(_, items)| !items.is_empty()));
        }
    }
}
