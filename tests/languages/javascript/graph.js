// Dijkstra with a binary heap, topological order and strongly connected components over a generated graph; a long table.
class PriorityQueue {
  constructor (compare) { this.items = []; this.compare = compare }
  get length () { return this.items.length }

  push (item) {
    const { items } = this
    let at = items.push(item) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (this.compare(items[parent], items[at]) <= 0) break
      ;[items[parent], items[at]] = [items[at], items[parent]]
      at = parent
    }
  }

  pop () {
    const { items } = this
    const top = items[0]
    const last = items.pop()
    if (items.length) {
      items[0] = last
      this.sink()
    }
    return top
  }

  sink () {
    const { items } = this
    for (let at = 0; ;) {
      let least = at
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < items.length && this.compare(items[child], items[least]) < 0) least = child
      }
      if (least === at) return
      ;[items[least], items[at]] = [items[at], items[least]]
      at = least
    }
  }
}

function * generator (seed) {
  for (let state = seed >>> 0; ;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield state
  }
}

function makeGraph (size, edges) {
  const random = generator(42)
  const next = () => random.next().value % size
  const graph = new Map(Array.from({ length: size }, (_, i) => [i, []]))
  for (let i = 0; i < edges; i++) graph.get(next()).push({ to: next(), cost: 1 + next() })
  return graph
}

function dijkstra (graph, start) {
  const distances = new Map([[start, 0]])
  const queue = new PriorityQueue((a, b) => a.distance - b.distance)
  queue.push({ node: start, distance: 0 })
  while (queue.length) {
    const { node, distance } = queue.pop()
    if (distance > distances.get(node)) continue
    for (const { to, cost } of graph.get(node)) {
      const through = distance + cost
      if (through < (distances.get(to) ?? Infinity)) {
        distances.set(to, through)
        queue.push({ node: to, distance: through })
      }
    }
  }
  return distances
}

function components (graph) {
  let counter = 0
  const index = new Map()
  const low = new Map()
  const stack = []
  const found = []
  const visit = (node) => {
    index.set(node, counter)
    low.set(node, counter++)
    stack.push(node)
    for (const { to } of graph.get(node)) {
      if (!index.has(to)) {
        visit(to)
        low.set(node, Math.min(low.get(node), low.get(to)))
      } else if (stack.includes(to)) low.set(node, Math.min(low.get(node), index.get(to)))
    }
    if (low.get(node) === index.get(node)) found.push(stack.splice(stack.indexOf(node)).sort((a, b) => a - b))
  }
  for (const node of graph.keys()) if (!index.has(node)) visit(node)
  return found
}

const graph = makeGraph(300, 700)
const distances = dijkstra(graph, 0)
for (const node of graph.keys()) console.log(`${String(node).padStart(3)}  ${distances.get(node) ?? 'unreachable'}`)
const largest = components(graph).reduce((a, b) => (b.length > a.length ? b : a))
console.assert(distances.get(0) === 0, 'the start is where it is')
;({ reachable: distances.size, total: components(graph).flat().length, largest: largest.length > 100 })
