# Shapes behind a protocol, some with an implementation of their own, the others by a fallback.
defprotocol Shape do
  @fallback_to_any true
  @doc "The area of a shape."
  def area(shape)
  def name(shape)
end

defmodule Circle do
  @enforce_keys [:radius]
  defstruct [:radius]
  @type t :: %__MODULE__{radius: number}
end

defmodule Rectangle do
  defstruct width: 1, height: 1

  defimpl Shape do
    def area(%{width: width, height: height}), do: width * height
    def name(%{width: side, height: side}), do: "square"
    def name(_), do: "rectangle"
  end
end

defimpl Shape, for: Circle do
  @pi 3.14
  def area(%Circle{radius: radius}), do: Float.round(@pi * radius ** 2, 2)
  def name(_), do: "circle"
end

defimpl Shape, for: Any do
  def area(_), do: 0
  def name(shape), do: "no shape: #{inspect(shape)}"
end

defimpl String.Chars, for: Circle do
  def to_string(%{radius: radius}), do: "Circle(#{radius})"
end

defmodule Gallery do
  def report(shapes) do
    shapes
    |> Enum.group_by(&Shape.name/1, &Shape.area/1)
    |> Map.new(fn {name, areas} -> {name, Enum.sort(areas, :desc)} end)
  end

  def largest(shapes), do: Enum.max_by(shapes, &Shape.area/1)
end

shapes = [%Circle{radius: 2}, %Rectangle{width: 3, height: 3}, %Rectangle{width: 2, height: 5}, %Rectangle{}, "a line"]
IO.puts("the largest: #{Gallery.largest(shapes)}")
{Gallery.report(shapes), MapSet.new(shapes, &Shape.name/1) |> MapSet.size()}
