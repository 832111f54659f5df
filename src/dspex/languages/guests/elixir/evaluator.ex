# The process that programs run in, with what a session keeps: bindings, the environment (imports, aliases, records), tools.
#
# Theory of operation. A process can be killed, not interrupted: a program that is stopped takes its process with it. So a session's
# evaluator leaves a copy of itself behind after each cell, which waits as it does; should it die, the copy is the evaluator, and the
# session is as before the cell. Otherwise one process runs all cells: what is linked to it, sent to it or put into its dictionary is
# there in the next.
defmodule Dspex.Evaluator do
  @moduledoc false

  alias Dspex.{Answer, Json}

  @large 65_536

  defstruct [:dialect, :settings, :binding, :env, tools: [], offered: nil]

  def start(dialect, settings, leader) do
    spawned(settings, fn ->
      Process.group_leader(self(), leader)
      {binding, env} = dialect.fresh()
      wait(%__MODULE__{dialect: dialect, settings: settings, binding: binding, env: env})
    end)
  end

  defp spawned(settings, function) do
    most = div(settings["memory"], 64) * 7

    # In words; an eighth of the memory is for what is not on the heap. The keeper sees all of it, and ends the session.
    # What is appended to a binary counts as garbage to come: megabytes of it need not be looked for at every step.
    :erlang.spawn_opt(function, max_heap_size: %{size: most, kill: true, error_logger: true}, min_bin_vheap_size: div(most, 8))
  end

  defp wait(state) do
    receive do
      {:dspex_run, server, request} ->
        {answer, state} = run(state, request)
        send(server, {:dspex_done, self(), answer})
        wait(state)

      {:dspex_copy, server} ->
        send(server, {:dspex_kept, self(), spawned(state.settings, fn -> wait(state) end)})
        wait(state)
    end
  end

  # Values are read, and the answer is written, on the program's heap and in its time.
  defp run(%{dialect: dialect} = state, request) do
    Process.delete(:dspex_line)
    state = offer(state, request.tools)
    binding = Enum.reduce(values(request.values, state), state.binding, fn {name, value}, all -> dialect.bind(all, name, value) end)
    {outcome, binding, env} = dialect.run(request.tree, binding, state.env, request.file)
    settle(dialect)
    {Answer.of(outcome, dialect, state.settings["value"]), %{state | binding: binding, env: env}}
  end

  # What was logged is written; unless the program has had the machine stop, and no logger is left.
  defp settle(dialect) do
    dialect.settle()
  catch
    :exit, _ -> :ok
  end

  defp values({<<>>, _}, _), do: %{}
  defp values({text, buffers}, state) when byte_size(text) < @large, do: Json.decode(text, buffers, state.dialect.null())

  defp values({text, buffers}, state) do
    before = Process.flag(:min_heap_size, min(Json.heap(byte_size(text)), div(state.settings["memory"], 32)))
    :erlang.garbage_collect()
    values = Json.decode(text, buffers, state.dialect.null())
    Process.flag(:min_heap_size, before)
    values
  end

  defp offer(%{tools: tools} = state, tools), do: state

  defp offer(state, tools) do
    {module, env} = state.dialect.offer(tools, state.offered, state.env)
    %{state | tools: tools, offered: module, env: env}
  end
end
