# An inventory with rules as modules of one behaviour, made by a macro; the last assertion is wrong, and in a function.
defmodule Rule do
  @callback check(item :: map) :: :ok | {:error, String.t()}

  defmacro __using__(options) do
    quote do
      @behaviour Rule
      @field unquote(options[:field])
      def value(item), do: Map.fetch!(item, @field)
      def title, do: __MODULE__ |> Module.split() |> List.last() |> Macro.underscore()
      defoverridable title: 0
    end
  end
end

defmodule Rules.Priced do
  use Rule, field: :price

  @impl true
  def check(item), do: if(value(item) > 0, do: :ok, else: {:error, "#{item.name} has no price"})
end

defmodule Rules.InStock do
  use Rule, field: :count

  @impl true
  def check(%{name: name} = item) do
    case value(item) do
      0 -> {:error, "#{name} is sold out"}
      n when n < 0 -> {:error, "#{name} is owed"}
      _ -> :ok
    end
  end

  def title, do: "in stock"
end

defmodule Inventory do
  @rules [Rules.Priced, Rules.InStock]

  def parse(text) do
    for line <- String.split(text, "\n", trim: true), [name, price, count] = String.split(line, ",") do
      %{name: name, price: String.to_float(price), count: String.to_integer(count)}
    end
  end

  def faults(items) do
    for item <- items, rule <- @rules, {:error, reason} <- [rule.check(item)], do: {rule.title(), reason}
  end

  def check!(items, expected) do
    import ExUnit.Assertions
    assert faults(items) == expected, "the faults are others"
  end
end

items = Inventory.parse("""
bolt,0.25,400
nut,0.0,0
gear,12.5,-2
""")

Inventory.check!(items, [{"priced", "nut has no price"}, {"in stock", "nut is sold out"}, {"in stock", "gear is owed"}])
IO.puts(:stderr, "one more")
Inventory.check!(items, [])
