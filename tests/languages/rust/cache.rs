use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A cache that forgets what was used longest ago. It has a mistake, which one of its tests finds.
pub struct Lru<K, V> {
    capacity: usize,
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a cache must hold something");
        Self { capacity, values: HashMap::new(), order: VecDeque::new() }
    }

    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.values.get(key) // forgets to note the use
    }

    pub fn put(&mut self, key: K, value: V) {
        if self.values.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_no_more_than_it_should() {
        let mut cache = Lru::new(2);
        (0..5).for_each(|n| cache.put(n, n * n));
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn what_was_used_stays() {
        let mut cache = Lru::new(2);
        cache.put("a", 1);
        cache.put("b", 2);
        assert_eq!(cache.get(&"a"), Some(&1));
        cache.put("c", 3);
        assert_eq!(cache.get(&"a"), Some(&1), "a was used last");
    }

    #[test]
    #[should_panic(expected = "must hold something")]
    fn an_empty_one_is_refused() {
        Lru::<i32, i32>::new(0);
    }
}
