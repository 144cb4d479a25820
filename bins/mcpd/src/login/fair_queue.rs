//! The queue of the hashers: bounded, and fair between tenants, so that a tenant that sends much does not take the places
//! of others.

use std::collections::VecDeque;

/// A queue of items of several tenants, which take turns. A tenant is usually a network.
pub struct FairQueue<K, T> {
    tenants: VecDeque<(K, VecDeque<T>)>,
    waiting: usize,
    capacity: usize,
}

impl<K: PartialEq, T> FairQueue<K, T> {
    /// An empty queue for at most `capacity` items.
    pub fn new(capacity: usize) -> Self {
        Self { tenants: VecDeque::new(), waiting: 0, capacity }
    }

    /// Adds an item behind the others of its tenant. A full queue first drops items without a waiter (`is_abandoned`),
    /// then the last item of the tenant that has the most.
    ///
    /// # Errors
    /// The item, if its own tenant has the most.
    pub fn push(&mut self, tenant: K, item: T, is_abandoned: impl Fn(&T) -> bool) -> Result<(), T> {
        if self.waiting >= self.capacity {
            self.tenants.iter_mut().for_each(|(_, items)| items.retain(|item| !is_abandoned(item)));
            self.remove_empty_tenants();
        }
        let own = self.tenants.iter().position(|(other, _)| *other == tenant);
        if self.waiting >= self.capacity {
            let items = |at: usize| self.tenants.get(at).map_or(0, |(_, items)| items.len());
            let most = (0..self.tenants.len()).max_by_key(|at| items(*at));
            match most {
                Some(most) if items(most) > own.map_or(0, items) + 1 => {
                    if let Some((_, items)) = self.tenants.get_mut(most) {
                        items.pop_back();
                        self.waiting -= 1;
                    }
                }
                _ => return Err(item),
            }
        }
        match own.and_then(|at| self.tenants.get_mut(at)) {
            Some((_, items)) => items.push_back(item),
            None => self.tenants.push_back((tenant, VecDeque::from([item]))),
        }
        self.waiting += 1;
        Ok(())
    }

    /// Takes the next item: the first one of the tenant whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let (tenant, mut items) = self.tenants.pop_front()?;
        let item = items.pop_front();
        if !items.is_empty() {
            self.tenants.push_back((tenant, items));
        }
        self.waiting -= usize::from(item.is_some());
        item
    }

    fn remove_empty_tenants(&mut self) {
        self.tenants.retain(|(_, items)| !items.is_empty());
        self.waiting = self.tenants.iter().map(|(_, items)| items.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::FairQueue;

    fn drain(queue: &mut FairQueue<char, u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn tenants_take_turns() {
        let mut queue = FairQueue::new(10);
        for (tenant, item) in [('a', 1), ('a', 2), ('a', 3), ('b', 4), ('c', 5), ('b', 6)] {
            queue.push(tenant, item, |_| false).unwrap();
        }
        assert_eq!(drain(&mut queue), [1, 4, 5, 2, 6, 3]);
        assert_eq!(queue.waiting, 0);
    }

    #[test]
    fn a_greedy_tenant_makes_room_for_others() {
        let mut queue = FairQueue::new(4);
        for item in 0..4 {
            queue.push('a', item, |_| false).unwrap();
        }
        assert_eq!(queue.push('a', 4, |_| false), Err(4), "its own item is refused");
        queue.push('b', 10, |_| false).unwrap();
        queue.push('c', 20, |_| false).unwrap();
        assert_eq!(queue.push('b', 11, |_| false), Err(11), "no tenant has more");
        assert_eq!(drain(&mut queue), [0, 10, 20, 1]);
    }

    #[test]
    fn abandoned_items_make_room_first() {
        let mut queue = FairQueue::new(3);
        for item in 0..3 {
            queue.push('a', item, |_| false).unwrap();
        }
        queue.push('a', 3, |item| *item < 2).unwrap();
        assert_eq!((queue.waiting, drain(&mut queue)), (2, vec![2, 3]));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut queue = FairQueue::new(8);
        for item in 0..1000_u32 {
            let tenant = char::from(b'a' + u8::try_from(item * item % 7).unwrap());
            let _ = queue.push(tenant, item, |item| item % 11 == 0);
            if item % 5 == 0 {
                queue.pop();
            }
            let held: usize = queue.tenants.iter().map(|(_, items)| items.len()).sum();
            assert!(held == queue.waiting && held <= 8, "{held}");
            assert!(queue.tenants.iter().all(|(_, items)| !items.is_empty()));
        }
    }
}
