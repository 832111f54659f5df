# The Elixir guest: takes requests on its channel, runs them, answers. Everything here may be overwritten by the program.
#
# Theory of operation. One process, the server, owns the channel (a port on descriptor 3). Programs run in another, the evaluator,
# with a heap that is bounded and a group leader that writes to descriptor 1; the server waits for its answer, for the deadline, for
# an interruption (SIGUSR2), and serves its calls of tools meanwhile. It hears first what the machine logs: why it killed a process.
#
# Nothing in this file is a wall: a program may patch, forge or break all of it, and harms its own run only.
defmodule Dspex.Guest do
  @moduledoc false

  alias Dspex.{Answer, Errors, Evaluator, Json, Leader}

  @execute 1
  @return 3
  @answer 16
  @call 18
  @display 19
  @ready 20
  @displays 1000

  # `dialect` is the language: Dspex.Program for Elixir, Dspex.Erlang.
  defstruct [:port, :settings, :dialect, :leader, :outputs, :evaluator, :monitor, :copy, held: <<>>, cells: 0, calls: %{}, number: 0, shown: 0]

  def main do
    settings = System.get_env("DSPEX_GUEST") |> Json.decode()
    System.delete_env("DSPEX_GUEST")
    Process.register(self(), Dspex.Server)
    {:ok, _} = Application.ensure_all_started(:elixir)
    Dspex.Signals.install()
    dialect = if settings["dialect"] == "erlang", do: Dspex.Erlang, else: Dspex.Program
    leader = Leader.start()
    Leader.take_over(leader)
    dialect.begin()
    :erlang.system_flag(:system_logger, self())
    guest = %__MODULE__{settings: settings, dialect: dialect, leader: leader}
    rehearse(begun(guest))
    guest = begun(%{guest | outputs: Port.list()})
    port = Port.open({:fd, 3, 3}, [:binary, :stream, :eof])
    frame(port, @ready, 0, [], [])
    written(port)
    serve(%{guest | port: port})
  end

  # A thread of its own writes to descriptors: what was printed shall be there before the answer, and what was said before a program
  # runs, which may end the machine at once.
  defp written(port) do
    case Port.info(port, :queue_size) do
      {:queue_size, left} when left > 0 ->
        :erlang.yield()
        written(port)

      _ ->
        :ok
    end
  end

  # With an evaluator: the copy of the one before, or one that knows nothing yet.
  defp begun(guest) do
    evaluator = guest.copy || Evaluator.start(guest.dialect, guest.settings, guest.leader)
    %{guest | evaluator: evaluator, monitor: Process.monitor(evaluator), copy: nil}
  end

  # Without it: it is stopped, whatever it does.
  defp stopped(guest) do
    Process.demonitor(guest.monitor, [:flush])
    Process.exit(guest.evaluator, :kill)
    begun(guest)
  end

  # What the first program would be the first to do, is loaded and done now.
  defp rehearse(guest) do
    for code <- guest.dialect.rehearsal() do
      perform(guest, %{"code" => code, "timeout" => 60, "tools" => [], "directory" => nil, "environment" => %{}, "session" => false}, {~s({"y": 1}), <<>>}, fn _ -> :ok end)
    end

    stopped(guest)
    for module <- guest.dialect.rehearsed(), do: :code.purge(module) && :code.delete(module)
  end

  # --- The channel -------------------------------------------------------------------------------------------------------

  defp serve(guest) do
    {@execute, body, buffers, guest} = next(guest)
    {envelope, values} = opened(body)
    guest |> perform(envelope, {values, buffers}, &answer(guest, &1)) |> serve()
  end

  # The next frame.
  defp next(guest) do
    case cut(guest.held) do
      {kind, body, buffers, rest} -> {kind, body, buffers, %{guest | held: rest}}
      wanted -> next(%{guest | held: more(guest.port, guest.held, wanted)})
    end
  end

  defp more(port, held, wanted) do
    parts = collect(port, [held], wanted - byte_size(held))
    IO.iodata_to_binary(parts)
  end

  defp collect(_, parts, missing) when missing <= 0, do: Enum.reverse(parts)

  defp collect(port, parts, missing) do
    receive do
      {^port, {:data, data}} -> collect(port, [data | parts], missing - byte_size(data))
      {^port, :eof} -> System.halt(0)
    end
  end

  defp cut(<<"dx", kind, _flags, length::little-32, size::little-64, rest::binary>> = held) do
    case rest do
      <<body::binary-size(length), buffers::binary-size(size), rest::binary>> -> {kind, body, buffers, rest}
      _ -> max(byte_size(held) + 1, 16 + length + size)
    end
  end

  defp cut(_), do: 16

  # The envelope, and the text of the values.
  defp opened(<<length::little-32, envelope::binary-size(length), values::binary>>), do: {Json.decode(envelope), values}

  defp frame(port, kind, flags, body, buffers) do
    length = IO.iodata_length(body)
    size = IO.iodata_length(buffers)
    Port.command(port, [<<"dx", kind, flags, length::little-32, size::little-64>>, body | buffers])
  end

  defp flag(tagged), do: if(tagged, do: 1, else: 0)

  # --- A program ---------------------------------------------------------------------------------------------------------

  defp perform(guest, envelope, values, answer) do
    guest = %{guest | cells: guest.cells + 1, shown: 0, calls: %{}}
    forget_interruptions()
    enter(envelope)
    file = if guest.cells == 1, do: "<program>", else: "<program #{guest.cells}>"

    case guest.dialect.read(envelope["code"], file, guest.settings) do
      {:ok, tree} ->
        request = %{tree: tree, values: values, file: file, tools: envelope["tools"], session: envelope["session"]}
        send(guest.evaluator, {:dspex_run, self(), request})
        {answered, guest} = attend(guest, System.monotonic_time(:millisecond) + ceil(envelope["timeout"] * 1000))
        answer.(answered)
        if envelope["session"], do: kept(guest), else: guest

      {:error, error} ->
        answer.(Answer.failed(error))
        guest
    end
  end

  # What came when no program ran is for none.
  defp forget_interruptions do
    receive do
      :dspex_interrupt -> forget_interruptions()
    after
      0 -> :ok
    end
  end

  defp enter(envelope) do
    System.put_env(envelope["environment"])

    if envelope["directory"] do
      path = Path.expand(envelope["directory"], "/run/sandbox/work")
      if String.starts_with?(path, "/run/sandbox/work"), do: File.mkdir_p!(path)
      File.cd!(path)
    end
  end

  # Waits for the evaluator's answer, and until then for all others who want something.
  defp attend(%{port: port, evaluator: evaluator, monitor: monitor} = guest, deadline) do
    receive do
      {:dspex_done, ^evaluator, answer} ->
        {answer, guest}

      {:DOWN, ^monitor, :process, _, reason} ->
        {ended(guest, reason), begun(guest)}

      {:log, _, _, arguments, _} = event ->
        if full?(arguments, evaluator), do: send(self(), {:dspex_full, evaluator}), else: send(:logger_proxy, event)
        attend(guest, deadline)

      {:dspex_call, from, name, arguments} ->
        guest |> call(from, name, arguments) |> attend(deadline)

      {:dspex_show, from, bundle} ->
        guest |> show(from, bundle) |> attend(deadline)

      {^port, {:data, data}} ->
        %{guest | held: guest.held <> data} |> settle() |> attend(deadline)

      {^port, :eof} ->
        System.halt(0)

      :dspex_interrupt ->
        {Answer.failed(Errors.plain("runtime", "KeyboardInterrupt", "the run was interrupted")), stopped(guest)}
    after
      max(0, deadline - System.monotonic_time(:millisecond)) ->
        {Answer.failed(Errors.plain("timeout", "Deadline", "the program ran longer than its wall time limit")), stopped(guest)}
    end
  end

  # Killed for want of memory, or by the program itself? The machine logs the former, by a thread that comes later, on a busy host by tenths of a second.
  defp ended(%{evaluator: evaluator} = guest, :killed) do
    receive do
      {:dspex_full, ^evaluator} -> without_memory()
      {:log, _, _, [^evaluator, words | _], _} when is_integer(words) -> without_memory()
    after
      500 -> :killed |> guest.dialect.exited() |> Answer.of(guest.dialect, 0)
    end
  end

  defp ended(guest, reason), do: reason |> guest.dialect.exited() |> Answer.of(guest.dialect, 0)

  defp without_memory, do: Answer.failed(Errors.plain("memory_limit", "MemoryError", "the program needed more memory than its limit"))

  # What is logged of a process that grew too large: which, and how many words it might have had.
  defp full?([evaluator, words | _], evaluator) when is_integer(words), do: true
  defp full?(_, _), do: false

  # The evaluator's copy, as it is after a cell; of one that was stopped there is none.
  defp kept(%{evaluator: evaluator, monitor: monitor} = guest) do
    send(evaluator, {:dspex_copy, self()})

    receive do
      {:dspex_kept, ^evaluator, copy} ->
        if guest.copy, do: Process.exit(guest.copy, :kill)
        %{guest | copy: copy}

      {:DOWN, ^monitor, :process, _, _} ->
        begun(guest)
    end
  end

  # --- Tools and displays ------------------------------------------------------------------------------------------------

  defp call(guest, {pid, tag}, name, arguments) do
    {text, buffers, tagged} = Json.encode([arguments, %{}])
    number = guest.number + 1
    frame(guest.port, @call, flag(tagged), [<<number::little-32, byte_size(name)::little-16>>, name, text], buffers)
    %{guest | number: number, calls: Map.put(guest.calls, number, {pid, tag})}
  catch
    {:not_carried, reason} ->
      send(pid, {tag, {:error, "ArgumentError", reason}})
      guest
  end

  defp settle(guest) do
    case cut(guest.held) do
      {@return, body, buffers, rest} ->
        {envelope, values} = opened(body)
        {{pid, tag}, calls} = Map.pop(guest.calls, envelope["number"], {self(), nil})
        outcome = if envelope["failed"], do: {:error, envelope["type"], envelope["message"]}, else: {:ok, Json.decode(values, buffers, guest.dialect.null())["result"]}
        if tag, do: send(pid, {tag, outcome})
        settle(%{guest | held: rest, calls: calls})

      _ ->
        guest
    end
  end

  defp show(%{shown: shown} = guest, {pid, tag}, bundle) do
    if shown < @displays do
      contents = Enum.map(bundle, fn {mime, content} -> {to_string(mime), content, not String.valid?(content)} end)
      entries = Enum.map(contents, fn {mime, content, binary} -> [mime, binary, byte_size(content)] end)
      {told, _, _} = Json.encode(%{"entries" => entries, "offset" => Leader.printed(guest.leader), "metadata" => %{}})
      frame(guest.port, @display, 0, told, Enum.map(contents, &elem(&1, 1)))
    end

    send(pid, {tag, :ok})
    %{guest | shown: shown + 1}
  end

  defp answer(%{port: port, outputs: outputs}, {text, buffers, tagged, envelope}) do
    Enum.each(outputs, &written/1)
    {told, _, _} = Json.encode(envelope)
    frame(port, @answer, flag(tagged), [<<byte_size(text)::little-32>>, text, told], buffers)
  end
end
