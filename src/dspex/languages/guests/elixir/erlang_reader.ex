# Erlang's text as pieces: it is cut at its dots, and each piece is a sequence of expressions if it reads as one, else a form.
defmodule Dspex.Erlang.Reader do
  @moduledoc false

  alias Dspex.Errors

  # [{:expressions, list} | {:form, form}], or the error of a program that cannot be read.
  def read(code) do
    with {:ok, tokens} <- tokens(code), {:ok, pieces} <- parsed(tokens, []) do
      {:ok, pieces}
    else
      {:error, {place, module, reason}} -> {:error, unreadable("SyntaxError", place, module, reason)}
    end
  end

  def unreadable(type, place, module, reason) do
    {line, column} = line_and_column(place)
    message = reason |> module.format_error() |> IO.chardata_to_string()
    Errors.plain("syntax", type, message, line, column, "<program>:#{line}: #{message}")
  end

  defp line_and_column({line, column}), do: {line, column}
  defp line_and_column(line) when is_integer(line), do: {line, nil}
  defp line_and_column(_), do: {nil, nil}

  # Only what uses macros needs the preprocessor, which is slower and reads a file. A dot is added, for the last is often left out.
  defp tokens(code) do
    text = code <> "\n.\n"
    if String.contains?(code, ["?", "-include", "-if"]), do: preprocessed(text), else: scan(String.to_charlist(text), {1, 1}, [])
  end

  defp scan(characters, place, found) do
    case :erl_scan.tokens([], characters, place) do
      {:done, {:ok, tokens, place}, rest} -> scan(rest, place, [tokens | found])
      {:done, {:error, reason, _}, _} -> {:error, reason}
      {:done, {:eof, _}, _} -> {:ok, Enum.reverse(found)}
      {:more, unfinished} -> ended(:erl_scan.tokens(unfinished, :eof, place), found)
    end
  end

  defp ended({:done, {:error, reason, _}, _}, _), do: {:error, reason}
  defp ended({:done, {:eof, _}, _}, found), do: {:ok, Enum.reverse(found)}

  defp preprocessed(text) do
    path = Path.join(System.tmp_dir!(), "program.erl")
    File.write!(path, text)
    {:ok, reader} = :epp.open(name: String.to_charlist(path), source_name: ~c"<program>", location: {1, 1}, macros: [{:MODULE, :program, :redefine}])
    File.rm!(path)
    found = expand(reader, [])
    :epp.close(reader)
    found
  end

  defp expand(reader, found) do
    case :epp.scan_erl_form(reader) do
      {:ok, tokens} -> expand(reader, [tokens | found])
      {:error, reason} -> {:error, reason}
      {:eof, _} -> {:ok, Enum.reverse(found)}
    end
  end

  defp parsed([], pieces), do: {:ok, Enum.reverse(pieces)}
  defp parsed([[{:dot, _}] | rest], pieces), do: parsed(rest, pieces)

  defp parsed([tokens | rest], pieces) do
    with {:ok, piece} <- piece(tokens), do: parsed(rest, [piece | pieces])
  end

  defp piece([{:-, _}, {:atom, _, _} | _] = tokens), do: form(tokens)

  defp piece(tokens) do
    case :erl_parse.parse_exprs(tokens) do
      {:ok, expressions} -> {:ok, {:expressions, expressions}}
      {:error, reason} -> tokens |> form() |> further(reason)
    end
  end

  defp form(tokens), do: with({:ok, form} <- :erl_parse.parse_form(tokens), do: {:ok, {:form, form}})

  # Of two readings that fail, the one that came further is what was meant.
  defp further({:error, form}, expression) when elem(form, 0) < elem(expression, 0), do: {:error, expression}
  defp further(read, _), do: read
end
