# The static check of the policy: modules and calls that it forbids, found in the syntax tree and told with their line. A
# courtesy, told early; the wall is the kernel.
defmodule Dspex.Checking do
  @moduledoc false

  # The first violation as {message, line}, or nil.
  def first_violation(_, [], []), do: nil

  def first_violation(tree, modules, calls) do
    {_, {_, found}} = Macro.prewalk(tree, {1, nil}, fn node, {line, found} ->
      line = line_of(node) || line
      {node, {line, found || violation(node, line, modules, calls)}}
    end)

    found
  end

  defp line_of({_, meta, _}) when is_list(meta), do: meta[:line]
  defp line_of(_), do: nil

  defp violation({{:., _, [module, function]}, _, arguments}, line, modules, calls) when is_atom(function) and is_list(arguments) do
    name = name(module)

    cond do
      name && "#{name}.#{function}" in calls -> {"the policy forbids calling #{name}.#{function}", line}
      name && name in modules -> {"the policy forbids the module #{name}", line}
      true -> nil
    end
  end

  defp violation({name, _, arguments}, line, _, calls) when is_atom(name) and is_list(arguments) do
    if Atom.to_string(name) in calls, do: {"the policy forbids calling #{name}", line}
  end

  defp violation(_, _, [], _), do: nil

  defp violation(node, line, modules, _) do
    name = name(node)
    if name && name in modules, do: {"the policy forbids the module #{name}", line}
  end

  # "System" for Elixir's modules, ":os" for Erlang's.
  defp name({:__aliases__, _, parts}), do: Enum.map_join(parts, ".", &if(is_atom(&1), do: Atom.to_string(&1), else: "_"))
  defp name(atom) when is_atom(atom) and atom not in [nil, true, false], do: inspect(atom)
  defp name(_), do: nil
end
