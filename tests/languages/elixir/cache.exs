# A cache that forgets what was least recently used, with tests: one of them is wrong.
defmodule Cache do
  defstruct size: 2, entries: %{}, clock: 0

  def new(size), do: %Cache{size: size}

  def get(%Cache{entries: entries} = cache, key) do
    case entries do
      %{^key => {value, _}} -> {value, touch(cache, key, value)}
      _ -> {nil, cache}
    end
  end

  def put(%Cache{} = cache, key, value), do: cache |> evict(key) |> touch(key, value)

  defp touch(%Cache{clock: clock} = cache, key, value) do
    %{cache | clock: clock + 1, entries: Map.put(cache.entries, key, {value, clock})}
  end

  defp evict(%Cache{entries: entries, size: size} = cache, key) when map_size(entries) < size or is_map_key(entries, key), do: cache

  defp evict(%Cache{entries: entries} = cache, _) do
    {oldest, _} = Enum.min_by(entries, fn {_, {_, time}} -> time end)
    %{cache | entries: Map.delete(entries, oldest)}
  end
end

ExUnit.start(seed: 0, colors: [enabled: false])

defmodule CacheTest do
  use ExUnit.Case

  setup do
    {:ok, cache: Cache.new(2) |> Cache.put(:a, 1) |> Cache.put(:b, 2)}
  end

  test "the least recently used is forgotten", %{cache: cache} do
    {1, cache} = Cache.get(cache, :a)
    cache = Cache.put(cache, :c, 3)
    assert {nil, _} = Cache.get(cache, :b)
    assert {1, _} = Cache.get(cache, :a)
  end

  test "a cache of two holds three", %{cache: cache} do
    cache = Cache.put(cache, :c, 3)
    assert map_size(cache.entries) == 3
  end
end
