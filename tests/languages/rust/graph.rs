// Generic graphs, a binary heap, lifetimes, iterators of one's own, closures; a long table; a value at the end.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, BTreeMap, HashSet, VecDeque};
use std::fmt::Debug;

#[derive(Debug, Clone)]
struct Graph<N> {
    edges: BTreeMap<N, Vec<(N, u32)>>,
}

impl<N: Ord + Copy + Debug> Graph<N> {
    fn from_edges(edges: impl IntoIterator<Item = (N, N, u32)>) -> Self {
        let mut graph = Graph { edges: BTreeMap::new() };
        for (from, to, weight) in edges {
            graph.edges.entry(from).or_default().push((to, weight));
            graph.edges.entry(to).or_default().push((from, weight));
        }
        graph
    }

    fn breadth_first<'g>(&'g self, start: N) -> BreadthFirst<'g, N>
    where
        N: std::hash::Hash,
    {
        BreadthFirst { graph: self, waiting: VecDeque::from([start]), seen: HashSet::from([start]) }
    }

    fn distances(&self, start: N) -> BTreeMap<N, u32> {
        let mut found = BTreeMap::new();
        let mut heap = BinaryHeap::from([Reverse((0, start))]);
        while let Some(Reverse((distance, node))) = heap.pop() {
            if found.contains_key(&node) {
                continue;
            }
            found.insert(node, distance);
            heap.extend(self.edges[&node].iter().map(|&(next, weight)| Reverse((distance + weight, next))));
        }
        found
    }
}

struct BreadthFirst<'g, N> {
    graph: &'g Graph<N>,
    waiting: VecDeque<N>,
    seen: HashSet<N>,
}

impl<N: Ord + Copy + std::hash::Hash> Iterator for BreadthFirst<'_, N> {
    type Item = N;

    fn next(&mut self) -> Option<N> {
        let node = self.waiting.pop_front()?;
        for &(next, _) in self.graph.edges.get(&node).into_iter().flatten() {
            if self.seen.insert(next) {
                self.waiting.push_back(next);
            }
        }
        Some(node)
    }
}

fn grid(size: i32) -> impl Iterator<Item = ((i32, i32), (i32, i32), u32)> {
    let weight = |x: i32, y: i32| ((x * 7 + y * 3) % 5 + 1) as u32;
    (0..size).flat_map(move |x| {
        (0..size).flat_map(move |y| {
            let right = (x + 1 < size).then(|| ((x, y), (x + 1, y), weight(x, y)));
            let down = (y + 1 < size).then(|| ((x, y), (x, y + 1), weight(y, x)));
            right.into_iter().chain(down)
        })
    })
}

let size = 30;
let graph = Graph::from_edges(grid(size));
let distances = graph.distances((0, 0));
for y in 0..size {
    let row: Vec<String> = (0..size).map(|x| format!("{:>3}", distances[&(x, y)])).collect();
    println!("{}", row.join(" "));
}
let visited = graph.breadth_first((0, 0)).count();
assert_eq!(visited, (size * size) as usize);
let farthest = distances.iter().max_by_key(|&(node, distance)| (distance, node)).unwrap();
(visited, graph.breadth_first((1, 1)).take(3).collect::<Vec<_>>(), farthest.0 == &(size - 1, size - 1))
