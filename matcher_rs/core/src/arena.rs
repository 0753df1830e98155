//! A growing array that never moves its items and never holds room for twice of them.
//!
//! A `Vec` of millions doubles, and while it does it holds three times what it needs. Chunks of a
//! fixed length waste at most one chunk.

use std::ops::{Index, IndexMut};

const CHUNK_BITS: u32 = 13;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Items by dense `u32` index, in the order they were pushed.
pub(crate) struct Arena<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(crate) fn push(&mut self, item: T) -> u32 {
        let index = self.len;
        if (index as usize) & (CHUNK - 1) == 0 {
            // The first chunk grows as it is filled: a small resolver stays small.
            let room = if index == 0 { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        let last = self.chunks.last_mut().expect("a chunk was pushed above");
        last.push(item);
        self.len = index.checked_add(1).expect("fewer than 2^32 items fit the machine");
        index
    }

    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let items: usize = self.chunks.iter().map(Vec::capacity).sum();
        items * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.chunks[(index >> CHUNK_BITS) as usize][(index as usize) & (CHUNK - 1)]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[(index >> CHUNK_BITS) as usize][(index as usize) & (CHUNK - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_index_over_chunks() {
        let mut arena = Arena::new();
        for item in 0..(3 * CHUNK as u32 + 5) {
            assert_eq!(arena.push(item), item);
        }
        assert_eq!(arena.len(), 3 * CHUNK + 5);
        assert!((0..arena.len() as u32).all(|index| arena[index] == index));
    }

    #[test]
    fn at_most_one_chunk_is_spare() {
        let mut arena = Arena::new();
        for item in 0..(9 * CHUNK as u64 + 1) {
            arena.push(item);
        }
        let used = arena.len() * size_of::<u64>();
        assert!(arena.memory_bytes() < used + CHUNK * size_of::<u64>() + 1024);
    }
}
