# Errors in Erlang's words. An exception's type is the name that its reason begins with (badarith, badmatch, ...).
defmodule Dspex.Erlang.Errors do
  @moduledoc false

  alias Dspex.Errors

  @disk [:enospc, :edquot, :efbig]

  # What a program raised, threw or exited with; `marked` is the line that it was on.
  def explained(:exit, :normal, _, _), do: :left

  def explained(class, reason, stack, marked) do
    program = Enum.filter(stack, &Errors.own?/1)
    text = class |> format(reason, missed(stack) ++ program) |> IO.chardata_to_string()
    Errors.plain(kind(reason), type(class, reason), message(class, reason, text), Errors.line(program) || marked, nil, "** " <> text)
  end

  # As the shell does, each term on one line.
  defp format(class, reason, stack), do: :erl_error.format_exception(class, reason, stack, %{format_fun: fn term, _ -> :io_lib.format("~0tp", [term]) end})

  # What was called and would not take it, or is not there, is named by the first frame, whose last part says nothing of a file.
  defp missed([{module, _, arguments, _} = first | _]) when is_list(arguments) and module != :erl_eval, do: if(Errors.own?(first), do: [], else: [first])
  defp missed(_), do: []

  defp kind(:system_limit), do: "process_limit"
  defp kind({:badmatch, {:error, reason}}) when reason in @disk, do: "disk_limit"
  defp kind(reason) when reason in @disk, do: "disk_limit"
  defp kind(_), do: "runtime"

  defp type(:error, reason) when is_atom(reason), do: Atom.to_string(reason)
  defp type(:error, reason) when is_tuple(reason) and is_atom(elem(reason, 0)), do: Atom.to_string(elem(reason, 0))
  defp type(class, _), do: Atom.to_string(class)

  # A tool that failed says why itself; all else is told as in the shell, without the frames.
  defp message(:error, {:tool_error, type, message}, _), do: "#{type}: #{message}"
  defp message(_, _, text), do: text |> String.split("\n") |> hd() |> String.replace(~r/^exception (error|throw|exit): /, "")

  def type_of(%_{} = struct), do: Errors.type_of(Map.from_struct(struct))
  def type_of([]), do: "list"
  def type_of(other), do: Errors.type_of(other)
end
