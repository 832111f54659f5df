# Errors as the program's author would see them: the engine's own frames are left out.
defmodule Dspex.Errors do
  @moduledoc false

  def plain(kind, type, message, line \\ nil, column \\ nil, trace \\ "") do
    %{"kind" => kind, "type" => type, "message" => said(message, 10_000), "line" => line, "column" => column, "traceback" => said(trace, 20_000)}
  end

  defp said(text, most), do: text |> String.chunk(:valid) |> Enum.map_join(&if(String.valid?(&1), do: &1, else: "\uFFFD")) |> String.slice(0, most)

  # What a program that cannot be read is told: where, and why.
  def unreadable(meta, message, token, file) do
    {before, behind} = if is_tuple(message), do: message, else: {message, ""}
    text = "#{before}#{if is_binary(token), do: token, else: inspect(token)}#{behind}"
    type = if token == "" or String.contains?(text, "missing terminator"), do: "TokenMissingError", else: "SyntaxError"
    line = meta[:line]
    plain("syntax", type, text, line, meta[:column], "** (#{type}) #{file}:#{line}: #{text}")
  end

  # What a program raised, threw or exited with; `marked` is where it was: {file, line}.
  def explained(:exit, :normal, _, _), do: :left

  # What ended a process that this one was linked to.
  def explained(:exit, {%{__exception__: true} = exception, stack}, _, marked) when is_list(stack), do: explained(:error, exception, stack, marked)

  def explained(kind, reason, stack, marked) do
    reason = if kind == :error, do: Exception.normalize(:error, reason, stack), else: reason
    place = place(reason)
    own = stack |> Enum.filter(&own?/1) |> evaluated(if(place, do: nil, else: marked))
    plain(kind_of(reason), type(kind, reason), message(kind, reason), place || line(own), nil, Exception.format(kind, reason, own))
  end

  # What is evaluated has no frames of its own: the line that it was on is the last one.
  defp evaluated([], {file, line}), do: [{:elixir_eval, :__FILE__, 1, [file: String.to_charlist(file), line: line]}]
  defp evaluated(own, _), do: own

  defp kind_of(%module{}) when module in [SyntaxError, TokenMissingError, CompileError], do: "syntax"
  defp kind_of(%File.Error{reason: reason}) when reason in [:enospc, :edquot, :efbig], do: "disk_limit"
  defp kind_of(%SystemLimitError{}), do: "process_limit"
  defp kind_of(%ErlangError{original: reason}) when reason in [:enospc, :edquot, :efbig], do: "disk_limit"
  defp kind_of(_), do: "runtime"

  defp place(%{line: line}) when is_integer(line), do: line
  defp place(_), do: nil

  # The line of the innermost frame that has one.
  def line(own), do: Enum.find_value(own, fn {_, _, _, at} -> if at[:line] && at[:line] > 0, do: at[:line] end)

  # Whether a frame is of the program.
  def own?({_, _, _, at}), do: at |> Keyword.get(:file, ~c"") |> to_string() |> String.starts_with?("<program")

  defp type(:error, %module{}), do: inspect(module)
  defp type(:throw, _), do: "throw"
  defp type(:exit, _), do: "exit"
  defp type(_, other), do: type_of(other)

  defp message(:error, %_{} = exception), do: exception |> Exception.message() |> String.trim()
  defp message(:exit, {:shutdown, status}) when is_integer(status), do: "the program ended with status #{status}"
  defp message(:exit, reason), do: Exception.format_exit(reason)
  defp message(kind, reason), do: "#{kind}: #{inspect(reason)}"

  # The name of a value's type, as `result.value_type` has it.
  def type_of(nil), do: "nil"
  def type_of(x) when is_boolean(x), do: "boolean"
  def type_of(x) when is_atom(x), do: "atom"
  def type_of(x) when is_integer(x), do: "integer"
  def type_of(x) when is_float(x), do: "float"
  def type_of(x) when is_binary(x), do: "binary"
  def type_of(x) when is_bitstring(x), do: "bitstring"
  def type_of(x) when is_list(x), do: "list"
  def type_of(x) when is_tuple(x), do: "tuple"
  def type_of(%module{}), do: inspect(module)
  def type_of(x) when is_map(x), do: "map"
  def type_of(x) when is_function(x), do: "function"
  def type_of(x) when is_pid(x), do: "pid"
  def type_of(x) when is_port(x), do: "port"
  def type_of(_), do: "reference"
end
