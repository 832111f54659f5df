# JSON with tags, both ways (see `python_values`). A map with atoms as keys comes out with text as keys; what cannot cross throws
# {:not_carried, reason}.
#
# Theory of operation. What costs is collecting garbage, not reading bytes. So text is made by appending to one binary, which leaves
# nothing on the heap, and is read by calls in tail position, whose stack is a list: no pair of value and rest is made for each value.
# Whoever reads megabytes does so in a process that was given a heap for them (`heap/1`).
defmodule Dspex.Json do
  @moduledoc false

  @depth 200
  @small 0x8000000000000000
  @space ~c" \n\r\t"

  # Words of heap with which reading so much text is not stopped by the collector at every step.
  def heap(bytes), do: max(div(bytes, 2), 233)

  # --- Out: {text, buffers, tagged} ----------------------------------------------------------------------------------------

  def encode(term) do
    Process.put(:dspex_buffers, {0, []})
    Process.delete(:dspex_tagged)
    text = out(term, 0, <<>>)
    {_, buffers} = Process.delete(:dspex_buffers)
    {text, Enum.reverse(buffers), Process.delete(:dspex_tagged) || false}
  end

  defp tagged(text) do
    Process.put(:dspex_tagged, true)
    text
  end

  defp out(text, _, all) when is_binary(text) do
    case kind(text) do
      :plain -> <<all::binary, ?", text::binary, ?">>
      :escaped -> <<all::binary, ?", escaped(text)::binary, ?">>
      :bytes -> bytes(text, all)
    end
  end

  defp out(n, _, all) when is_integer(n) and n >= -@small and n < @small, do: <<all::binary, Integer.to_string(n)::binary>>
  defp out(n, _, all) when is_integer(n) and n < 0, do: <<all::binary, tagged(~s({"~int":"-0x))::binary, hex(-n)::binary, ~s("})>>
  defp out(n, _, all) when is_integer(n), do: <<all::binary, tagged(~s({"~int":"0x))::binary, hex(n)::binary, ~s("})>>
  defp out(x, _, all) when is_float(x), do: <<all::binary, :erlang.float_to_binary(x, [:short])::binary>>
  defp out(nil, _, all), do: <<all::binary, "null">>
  defp out(:null, _, all), do: <<all::binary, "null">>
  defp out(true, _, all), do: <<all::binary, "true">>
  defp out(false, _, all), do: <<all::binary, "false">>
  defp out(atom, depth, all) when is_atom(atom), do: out(name(atom), depth, all)
  defp out(_, depth, _) when depth > @depth, do: throw({:not_carried, "it is nested more than #{@depth} levels deep"})
  defp out(list, depth, all) when is_list(list), do: items(list, depth + 1, all)
  defp out(tuple, depth, all) when is_tuple(tuple), do: around(~s({"~tuple":), Tuple.to_list(tuple), depth, all)
  defp out(%module{} = struct, depth, all), do: struct(module, struct, depth, all)
  defp out(map, depth, all) when is_map(map), do: map |> :maps.to_list() |> map(depth + 1, all)
  defp out(other, _, _), do: throw({:not_carried, "a #{Dspex.Errors.type_of(other)} cannot be carried"})

  defp struct(MapSet, set, depth, all), do: around(~s({"~set":), MapSet.to_list(set), depth, all)
  defp struct(Date, date, _, all), do: <<all::binary, tagged(~s({"~date":"))::binary, Date.to_iso8601(date)::binary, ~s("})>>
  defp struct(Time, time, _, all), do: moment("time", Time.to_iso8601(time), all)
  defp struct(NaiveDateTime, moment, _, all), do: moment("datetime", NaiveDateTime.to_iso8601(moment), all)
  defp struct(DateTime, moment, _, all), do: moment("datetime", moment |> DateTime.to_iso8601() |> String.replace("Z", "+00:00"), all)
  defp struct(_, struct, depth, all), do: struct |> Map.from_struct() |> out(depth, all)

  defp moment(tag, text, all), do: <<all::binary, tagged(~s({"~))::binary, tag::binary, ~s(":["), text::binary, ~s(",null,0]})>>
  defp around(tag, list, depth, all), do: <<items(list, depth + 1, <<all::binary, tagged(tag)::binary>>)::binary, ?}>>
  defp hex(n), do: n |> Integer.to_string(16) |> String.downcase()

  defp name(atom) do
    case Atom.to_string(atom) do
      "Elixir." <> module -> module
      name -> name
    end
  end

  defp items([], _, all), do: <<all::binary, "[]">>
  defp items([first | rest], depth, all), do: more(rest, depth, out(first, depth, <<all::binary, ?[>>))

  defp more([], _, all), do: <<all::binary, ?]>>
  defp more([item | rest], depth, all), do: more(rest, depth, out(item, depth, <<all::binary, ?,>>))
  defp more(_, _, _), do: throw({:not_carried, "an improper list cannot be carried"})

  defp map([], _, all), do: <<all::binary, "{}">>

  defp map(pairs, depth, all) do
    case keys(pairs, nil) do
      :text -> fields(pairs, ?{, depth, all)
      :named -> pairs |> named() |> fields(?{, depth, all)
      :any -> <<(pairs |> Enum.map(fn {key, value} -> [key, value] end) |> items(depth, <<all::binary, tagged(~s({"~dict":))::binary>>))::binary, ?}>>
    end
  end

  # What the keys of a map are: text, text and atoms that stand for it, or anything.
  defp keys([], found), do: found
  defp keys([{<<"~", _::binary>>, _} | _], _), do: :any
  defp keys([{key, _} | rest], found) when is_binary(key), do: if(kind(key) == :bytes, do: :any, else: keys(rest, found || :text))
  defp keys([{key, _} | rest], _) when is_atom(key) and key not in [nil, :null, true, false], do: keys(rest, :named)
  defp keys(_, _), do: :any

  defp named(pairs) do
    pairs = Enum.map(pairs, fn {key, value} -> {if(is_atom(key), do: Atom.to_string(key), else: key), value} end)
    unique = Enum.uniq_by(pairs, &elem(&1, 0))
    if length(unique) == length(pairs), do: pairs, else: throw({:not_carried, "two keys of a map would arrive as one"})
  end

  defp fields([], _, _, all), do: <<all::binary, ?}>>

  defp fields([{key, value} | rest], before, depth, all) do
    text = if kind(key) == :plain, do: key, else: escaped(key)
    fields(rest, ?,, depth, out(value, depth, <<all::binary, before, ?", text::binary, ~s(":)>>))
  end

  defp bytes(data, all) do
    {offset, buffers} = Process.get(:dspex_buffers)
    Process.put(:dspex_buffers, {offset + byte_size(data), [data | buffers]})
    <<all::binary, tagged(~s({"~bytes":[))::binary, Integer.to_string(offset)::binary, ?,, Integer.to_string(byte_size(data))::binary, ~s(]})>>
  end

  # Whether a binary is text as it stands, text with what JSON escapes, or no text.
  defp kind(<<c, rest::binary>>) when c >= 0x20 and c < 0x80 and c != ?" and c != ?\\, do: kind(rest)
  defp kind(<<>>), do: :plain
  defp kind(<<c::utf8, rest::binary>>) when c >= 0x80, do: kind(rest)
  defp kind(rest), do: if(String.valid?(rest), do: :escaped, else: :bytes)

  defp escaped(text), do: escaped(text, text, 0, 0, <<>>)

  defp escaped(<<c, rest::binary>>, all, from, length, done) when c >= 0x20 and c != ?" and c != ?\\, do: escaped(rest, all, from, length + 1, done)
  defp escaped(<<>>, all, from, length, done), do: <<done::binary, binary_part(all, from, length)::binary>>

  defp escaped(<<c, rest::binary>>, all, from, length, done) do
    escaped(rest, all, from + length + 1, 0, <<done::binary, binary_part(all, from, length)::binary, escape(c)::binary>>)
  end

  defp escape(?"), do: ~S(\")
  defp escape(?\\), do: ~S(\\)
  defp escape(?\n), do: ~S(\n)
  defp escape(?\r), do: ~S(\r)
  defp escape(?\t), do: ~S(\t)
  defp escape(c), do: <<"\\u00", Integer.to_string(div(c, 16), 16)::binary, Integer.to_string(rem(c, 16), 16)::binary>>

  # --- In: the rest of the text, all of it and how far it has been read, what is open, and what values are made with ---------------

  # `null` is what null becomes: nil in Elixir, null in Erlang.
  def decode(text, buffers \\ <<>>, null \\ nil), do: value(text, text, 0, [], {buffers, null})

  defp value(<<?", rest::bits>>, all, n, open, with), do: string(rest, all, n + 1, 0, open, with)
  defp value(<<?{, rest::bits>>, all, n, open, with), do: object(rest, all, n + 1, open, with)
  defp value(<<?[, rest::bits>>, all, n, open, with), do: array(rest, all, n + 1, open, with)
  defp value(<<c, rest::bits>>, all, n, open, with) when c in ?0..?9, do: integer(rest, all, n, 1, c - ?0, 1, open, with)
  defp value(<<?-, c, rest::bits>>, all, n, open, with) when c in ?0..?9, do: integer(rest, all, n, 2, c - ?0, -1, open, with)
  defp value(<<"true", rest::bits>>, all, n, open, with), do: close(open, rest, all, n + 4, true, with)
  defp value(<<"false", rest::bits>>, all, n, open, with), do: close(open, rest, all, n + 5, false, with)
  defp value(<<"null", rest::bits>>, all, n, open, {_, null} = with), do: close(open, rest, all, n + 4, null, with)
  defp value(<<c, rest::bits>>, all, n, open, with) when c in @space, do: value(rest, all, n + 1, open, with)

  defp integer(<<c, rest::bits>>, all, n, l, value, sign, open, with) when c in ?0..?9, do: integer(rest, all, n, l + 1, value * 10 + c - ?0, sign, open, with)
  defp integer(<<c, rest::bits>>, all, n, l, _, _, open, with) when c in ~c".eE", do: number(rest, all, n, l + 1, open, with)
  defp integer(<<rest::bits>>, all, n, l, value, sign, open, with), do: close(open, rest, all, n + l, sign * value, with)

  defp number(<<c, rest::bits>>, all, n, l, open, with) when c in ?0..?9 or c in ~c"+-eE.", do: number(rest, all, n, l + 1, open, with)
  defp number(<<rest::bits>>, all, n, l, open, with), do: close(open, rest, all, n + l, float(binary_part(all, n, l)), with)

  # The BEAM reads no 1e22.
  defp float(text) do
    case :binary.match(text, ".") do
      :nomatch -> text |> String.replace(~r/[eE]/, ".0e") |> String.to_float()
      _ -> String.to_float(text)
    end
  end

  # Copied, or a short text would keep all that it came with.
  defp string(<<?", rest::bits>>, all, n, l, open, with), do: close(open, rest, all, n + l + 1, :binary.copy(binary_part(all, n, l)), with)
  defp string(<<?\\, rest::bits>>, all, n, l, open, with), do: unescape(rest, all, n + l + 1, binary_part(all, n, l), open, with)
  defp string(<<_, rest::bits>>, all, n, l, open, with), do: string(rest, all, n, l + 1, open, with)

  # A text with a backslash, which has just been read; `done` is what is before it.
  defp unescape(<<?u, high::binary-size(4), "\\u", low::binary-size(4), rest::bits>> = here, all, n, done, open, with) do
    case {String.to_integer(high, 16), String.to_integer(low, 16)} do
      {high, low} when high in 0xD800..0xDBFF and low in 0xDC00..0xDFFF ->
        pieces(rest, all, n + 11, 0, <<done::binary, 0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00::utf8>>, open, with)

      {one, _} ->
        <<_::binary-size(5), rest::bits>> = here
        pieces(rest, all, n + 5, 0, <<done::binary, whole(one)::utf8>>, open, with)
    end
  end

  defp unescape(<<?u, code::binary-size(4), rest::bits>>, all, n, done, open, with) do
    pieces(rest, all, n + 5, 0, <<done::binary, whole(String.to_integer(code, 16))::utf8>>, open, with)
  end

  defp unescape(<<c, rest::bits>>, all, n, done, open, with), do: pieces(rest, all, n + 1, 0, <<done::binary, meant(c)>>, open, with)

  # Half a surrogate pair is no character.
  defp whole(code), do: if(code in 0xD800..0xDFFF, do: 0xFFFD, else: code)

  defp meant(?n), do: ?\n
  defp meant(?r), do: ?\r
  defp meant(?t), do: ?\t
  defp meant(?b), do: ?\b
  defp meant(?f), do: ?\f
  defp meant(c), do: c

  defp pieces(<<?", rest::bits>>, all, n, l, done, open, with), do: close(open, rest, all, n + l + 1, <<done::binary, binary_part(all, n, l)::binary>>, with)
  defp pieces(<<?\\, rest::bits>>, all, n, l, done, open, with), do: unescape(rest, all, n + l + 1, <<done::binary, binary_part(all, n, l)::binary>>, open, with)
  defp pieces(<<_, rest::bits>>, all, n, l, done, open, with), do: pieces(rest, all, n, l + 1, done, open, with)

  defp array(<<?], rest::bits>>, all, n, open, with), do: close(open, rest, all, n + 1, [], with)
  defp array(<<c, rest::bits>>, all, n, open, with) when c in @space, do: array(rest, all, n + 1, open, with)
  defp array(<<rest::bits>>, all, n, open, with), do: value(rest, all, n, [:array, [] | open], with)

  defp object(<<?}, rest::bits>>, all, n, open, with), do: close(open, rest, all, n + 1, %{}, with)
  defp object(<<rest::bits>>, all, n, open, with), do: value(rest, all, n, [:key, [] | open], with)

  # A value has been read: what it belongs to is on top of what is open.
  defp close([:array, items | open], rest, all, n, value, with), do: item(rest, all, n, [value | items], open, with)
  defp close([:key, pairs | open], rest, all, n, key, with), do: colon(rest, all, n, [:value, key, pairs | open], with)
  defp close([:value, key, pairs | open], rest, all, n, value, with), do: pair(rest, all, n, [{key, value} | pairs], open, with)
  defp close([], _, _, _, value, _), do: value

  defp colon(<<?:, rest::bits>>, all, n, open, with), do: value(rest, all, n + 1, open, with)
  defp colon(<<_, rest::bits>>, all, n, open, with), do: colon(rest, all, n + 1, open, with)

  defp item(<<?,, rest::bits>>, all, n, items, open, with), do: value(rest, all, n + 1, [:array, items | open], with)
  defp item(<<?], rest::bits>>, all, n, items, open, with), do: close(open, rest, all, n + 1, :lists.reverse(items), with)
  defp item(<<_, rest::bits>>, all, n, items, open, with), do: item(rest, all, n + 1, items, open, with)

  defp pair(<<?,, rest::bits>>, all, n, pairs, open, with), do: value(rest, all, n + 1, [:key, pairs | open], with)
  defp pair(<<?}, rest::bits>>, all, n, [{<<"~", tag::binary>>, value}], open, with), do: close(open, rest, all, n + 1, untagged(tag, value, with), with)
  defp pair(<<?}, rest::bits>>, all, n, pairs, open, with), do: close(open, rest, all, n + 1, :maps.from_list(pairs), with)
  defp pair(<<_, rest::bits>>, all, n, pairs, open, with), do: pair(rest, all, n + 1, pairs, open, with)

  defp untagged("bytes", [offset, length], {buffers, _}), do: :binary.copy(binary_part(buffers, offset, length))
  defp untagged("int", <<"-0x", digits::binary>>, _), do: -String.to_integer(digits, 16)
  defp untagged("int", <<"0x", digits::binary>>, _), do: String.to_integer(digits, 16)
  defp untagged("str", parts, _), do: IO.iodata_to_binary(parts)
  defp untagged("tuple", items, _), do: List.to_tuple(items)
  defp untagged("set", items, _), do: MapSet.new(items)
  defp untagged("frozenset", items, _), do: MapSet.new(items)
  defp untagged("dict", pairs, _), do: Map.new(pairs, fn [key, value] -> {key, value} end)
  defp untagged("date", text, _), do: Date.from_iso8601!(text)

  defp untagged("datetime", [text | _], _) do
    case DateTime.from_iso8601(text) do
      {:ok, moment, _} -> moment
      _ -> NaiveDateTime.from_iso8601!(text)
    end
  end
end
