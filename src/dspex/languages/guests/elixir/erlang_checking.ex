# The static check of the policy for Erlang: see `Dspex.Checking`. Modules are named "os", calls "os:cmd" or "spawn".
defmodule Dspex.Erlang.Checking do
  @moduledoc false

  # The first violation as {message, line}, or nil.
  def first_violation(_, [], []), do: nil
  def first_violation(node, modules, calls), do: violation(node, modules, calls) || within(node, modules, calls)

  defp within(node, modules, calls) when is_tuple(node), do: within(Tuple.to_list(node), modules, calls)
  defp within([node | rest], modules, calls), do: first_violation(node, modules, calls) || within(rest, modules, calls)
  defp within(_, _, _), do: nil

  defp violation({:remote, place, {:atom, _, module}, {:atom, _, function}}, _, calls), do: called("#{module}:#{function}", place, calls)
  defp violation({:function, {:atom, place, module}, {:atom, _, function}, _}, _, calls), do: called("#{module}:#{function}", place, calls)
  defp violation({:call, place, {:atom, _, function}, _}, _, calls), do: called("#{function}", place, calls)

  defp violation({:atom, place, name}, modules, _) do
    if Atom.to_string(name) in modules, do: {"the policy forbids the module #{name}", :erl_anno.line(place)}
  end

  defp violation(_, _, _), do: nil

  defp called(name, place, calls), do: if(name in calls, do: {"the policy forbids calling #{name}", :erl_anno.line(place)})
end
