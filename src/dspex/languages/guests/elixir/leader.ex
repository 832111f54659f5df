# The group leader of programs: what they print goes to descriptor 1, and is there before they go on. There is nothing to read.
defmodule Dspex.Leader do
  @moduledoc false

  def start do
    spawn(fn ->
      Process.flag(:trap_exit, true)
      loop(Port.open({:fd, 1, 1}, [:out, :binary]), 0)
    end)
  end

  # Whatever writes to the machine's own leader (applications, loggers) is heard in order, too.
  def take_over(leader) do
    before = Process.whereis(:user)
    Process.unregister(:user)
    Process.register(leader, :user)
    for process <- Process.list(), Process.info(process, :group_leader) == {:group_leader, before}, do: Process.group_leader(process, leader)
  end

  # How many bytes have been printed.
  def printed(leader) do
    send(leader, {:printed, self()})

    receive do
      {:printed, ^leader, count} -> count
    end
  end

  defp loop(port, count) do
    receive do
      {:io_request, from, reference, request} ->
        {reply, added} = attempt(request, port)
        send(from, {:io_reply, reference, reply})
        loop(port, count + added)

      {:printed, from} ->
        send(from, {:printed, self(), count})
        loop(port, count)

      _ ->
        loop(port, count)
    end
  end

  # Formatting is done here: what cannot be formatted is the asker's error.
  defp attempt(request, port) do
    answer(request, port)
  catch
    _, _ -> {{:error, :put_chars}, 0}
  end

  defp answer({:put_chars, encoding, characters}, port), do: print(port, :unicode.characters_to_binary(characters, encoding))
  defp answer({:put_chars, characters}, port), do: answer({:put_chars, :latin1, characters}, port)
  defp answer({:put_chars, encoding, module, function, arguments}, port), do: answer({:put_chars, encoding, apply(module, function, arguments)}, port)
  defp answer({:put_chars, module, function, arguments}, port), do: answer({:put_chars, :latin1, module, function, arguments}, port)

  defp answer({:requests, requests}, port) do
    Enum.reduce(requests, {:ok, 0}, fn request, {_, total} ->
      {reply, added} = answer(request, port)
      {reply, total + added}
    end)
  end

  defp answer(request, _) when elem(request, 0) in [:get_chars, :get_line, :get_until, :get_password], do: {:eof, 0}
  defp answer({:setopts, _}, _), do: {:ok, 0}
  defp answer(:getopts, _), do: {[binary: true, encoding: :unicode], 0}
  defp answer({:get_geometry, _}, _), do: {{:error, :enotsup}, 0}
  defp answer(_, _), do: {{:error, :request}, 0}

  defp print(port, text) when is_binary(text) do
    Port.command(port, text)
    {:ok, byte_size(text)}
  end

  defp print(_, _), do: {{:error, :put_chars}, 0}
end
