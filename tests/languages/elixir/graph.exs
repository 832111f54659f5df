# Shortest paths over a grid, by breadth and by weight, and a long table of them.
defmodule Graph do
  defstruct edges: %{}

  def grid(n) do
    edges =
      for x <- 1..n, y <- 1..n, {dx, dy} <- [{0, 1}, {1, 0}, {0, -1}, {-1, 0}], x + dx in 1..n, y + dy in 1..n do
        {{x, y}, {x + dx, y + dy}, rem(x * y, 7) + 1}
      end

    %Graph{edges: Enum.group_by(edges, &elem(&1, 0), fn {_, to, weight} -> {to, weight} end)}
  end

  def hops(graph, from), do: spread(graph, MapSet.new([from]), %{from => 0}, 1)

  defp spread(graph, front, seen, depth) do
    next = for node <- front, {to, _} <- graph.edges[node], not is_map_key(seen, to), into: MapSet.new(), do: to
    if MapSet.size(next) == 0, do: seen, else: spread(graph, next, Enum.reduce(next, seen, &Map.put(&2, &1, depth)), depth + 1)
  end

  def costs(graph, from), do: dijkstra(graph, :gb_sets.singleton({0, from}), %{})

  defp dijkstra(graph, queue, done) do
    if :gb_sets.is_empty(queue) do
      done
    else
      {{cost, node}, queue} = :gb_sets.take_smallest(queue)

      if is_map_key(done, node) do
        dijkstra(graph, queue, done)
      else
        queue = Enum.reduce(graph.edges[node], queue, fn {to, weight}, queue -> :gb_sets.add_element({cost + weight, to}, queue) end)
        dijkstra(graph, queue, Map.put(done, node, cost))
      end
    end
  end
end

graph = Graph.grid(40)
{hops, costs} = {Graph.hops(graph, {1, 1}), Graph.costs(graph, {1, 1})}

hops
|> Enum.sort()
|> Stream.map(fn {{x, y} = node, hops} -> :io_lib.format("~2w ~2w ~3w ~4w", [x, y, hops, costs[node]]) end)
|> Enum.each(&IO.puts/1)

true = Enum.all?(hops, fn {node, hops} -> costs[node] >= hops end)
{map_size(hops), hops[{40, 40}], costs[{40, 40}]}
