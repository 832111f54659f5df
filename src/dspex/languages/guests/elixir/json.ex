# JSON with tags, both ways (see `python_values`), by pattern matching on binaries. What a program calls a map with atoms as keys comes
# out with text as keys; what cannot cross throws {:not_carried, reason}.
defmodule Dspex.Json do
  @moduledoc false

  @depth 200
  @small 0x8000000000000000

  # --- Out: {text, buffers, tagged}, the first two iodata ------------------------------------------------------------------------------

  def encode(term) do
    Process.put(:dspex_buffers, {0, []})
    Process.delete(:dspex_tagged)
    text = out(term, 0)
    {_, buffers} = Process.delete(:dspex_buffers)
    {text, Enum.reverse(buffers), Process.delete(:dspex_tagged) || false}
  end

  defp tagged(text) do
    Process.put(:dspex_tagged, true)
    text
  end

  defp out(nil, _), do: "null"
  defp out(:null, _), do: "null"
  defp out(true, _), do: "true"
  defp out(false, _), do: "false"
  defp out(atom, _) when is_atom(atom), do: text(name(atom))
  defp out(n, _) when is_integer(n) and n >= -@small and n < @small, do: Integer.to_string(n)
  defp out(n, _) when is_integer(n) and n < 0, do: [tagged(~s({"~int":"-0x)), Integer.to_string(-n, 16) |> String.downcase(), ~s("})]
  defp out(n, _) when is_integer(n), do: [tagged(~s({"~int":"0x)), Integer.to_string(n, 16) |> String.downcase(), ~s("})]
  defp out(x, _) when is_float(x), do: :erlang.float_to_binary(x, [:short])
  defp out(text, _) when is_binary(text), do: if(String.valid?(text), do: text(text), else: bytes(text))
  defp out(_, depth) when depth > @depth, do: throw({:not_carried, "it is nested more than #{@depth} levels deep"})
  defp out(list, depth) when is_list(list), do: items(list, depth + 1)
  defp out(tuple, depth) when is_tuple(tuple), do: [tagged(~s({"~tuple":)), items(Tuple.to_list(tuple), depth + 1), ?}]
  defp out(%MapSet{} = set, depth), do: [tagged(~s({"~set":)), items(MapSet.to_list(set), depth + 1), ?}]
  defp out(%Date{} = date, _), do: [tagged(~s({"~date":")), Date.to_iso8601(date), ~s("})]
  defp out(%Time{} = time, _), do: [tagged(~s({"~time":[")), Time.to_iso8601(time), ~s(",null,0]})]
  defp out(%NaiveDateTime{} = moment, _), do: [tagged(~s({"~datetime":[")), NaiveDateTime.to_iso8601(moment), ~s(",null,0]})]
  defp out(%DateTime{} = moment, _), do: [tagged(~s({"~datetime":[")), moment |> DateTime.to_iso8601() |> String.replace("Z", "+00:00"), ~s(",null,0]})]
  defp out(%_{} = struct, depth), do: out(Map.from_struct(struct), depth)
  defp out(map, depth) when is_map(map), do: map(map, depth + 1)
  defp out(other, _), do: throw({:not_carried, "a #{Dspex.Errors.type_of(other)} cannot be carried"})

  defp name(atom) do
    case Atom.to_string(atom) do
      "Elixir." <> module -> module
      name -> name
    end
  end

  defp items([], _), do: "[]"
  defp items([first | rest], depth), do: [?[, out(first, depth) | more(rest, depth)]

  defp more([], _), do: [?]]
  defp more([item | rest], depth), do: [?,, out(item, depth) | more(rest, depth)]
  defp more(_, _), do: throw({:not_carried, "an improper list cannot be carried"})

  defp map(map, _) when map_size(map) == 0, do: "{}"

  defp map(map, depth) do
    case named(:maps.to_list(map), [], nil) do
      nil -> [tagged(~s({"~dict":[)), Enum.intersperse(Enum.map(map, fn {k, v} -> [?[, out(k, depth), ?,, out(v, depth), ?]] end), ?,), ~s(]})]
      [{key, value} | rest] -> [?{, text(key), ?:, out(value, depth) | fields(rest, depth)]
    end
  end

  defp fields([], _), do: [?}]
  defp fields([{key, value} | rest], depth), do: [?,, text(key), ?:, out(value, depth) | fields(rest, depth)]

  # The pairs with text as keys; nil where a key is something else. `kind` is what all keys so far were: only among texts and atoms
  # together may one stand for two.
  defp named([], pairs, :both) do
    if length(Enum.uniq_by(pairs, &elem(&1, 0))) == length(pairs), do: pairs, else: throw({:not_carried, "two keys of a map would arrive as one"})
  end

  defp named([], pairs, _), do: Enum.reverse(pairs)
  defp named([{<<"~", _::binary>>, _} | _], _, _), do: nil

  defp named([{key, value} | rest], pairs, kind) when is_binary(key) do
    if String.valid?(key), do: named(rest, [{key, value} | pairs], with_kind(kind, :text))
  end

  defp named([{key, value} | rest], pairs, kind) when is_atom(key) and key not in [nil, :null, true, false] do
    named([{Atom.to_string(key), value} | rest], pairs, with_kind(kind, :atom), :named)
  end

  defp named(_, _, _), do: nil

  defp named([pair | rest], pairs, kind, :named), do: named(rest, [pair | pairs], kind)

  defp with_kind(nil, kind), do: kind
  defp with_kind(kind, kind), do: kind
  defp with_kind(_, _), do: :both

  defp bytes(data) do
    {offset, buffers} = Process.get(:dspex_buffers)
    Process.put(:dspex_buffers, {offset + byte_size(data), [data | buffers]})
    [tagged(~s({"~bytes":[)), Integer.to_string(offset), ?,, Integer.to_string(byte_size(data)), ~s(]})]
  end

  def text(text), do: [?", escaped(text, text, 0, 0), ?"]

  defp escaped(<<c, rest::binary>>, all, from, length) when c >= 0x20 and c != ?" and c != ?\\, do: escaped(rest, all, from, length + 1)
  defp escaped(<<>>, all, 0, _), do: all
  defp escaped(<<>>, all, from, length), do: binary_part(all, from, length)

  defp escaped(<<c, rest::binary>>, all, from, length) do
    [binary_part(all, from, length), escape(c) | escaped(rest, all, from + length + 1, 0)]
  end

  defp escape(?"), do: ~S(\")
  defp escape(?\\), do: ~S(\\)
  defp escape(?\n), do: ~S(\n)
  defp escape(?\r), do: ~S(\r)
  defp escape(?\t), do: ~S(\t)
  defp escape(c), do: ["\\u00", Integer.to_string(div(c, 16), 16), Integer.to_string(rem(c, 16), 16)]

  # --- In ----------------------------------------------------------------------------------------------------------------

  # `null` is what null becomes: nil in Elixir, null in Erlang.
  def decode(text, buffers \\ <<>>, null \\ nil) do
    {value, _} = value(text, {buffers, null})
    value
  end

  defp value(<<c, rest::binary>>, b) when c in ' \n\r\t', do: value(rest, b)
  defp value(<<?", rest::binary>>, _), do: string(rest, rest, 0, [])
  defp value(<<?{, rest::binary>>, b), do: object(rest, b)
  defp value(<<?[, rest::binary>>, b), do: array(rest, b)
  defp value(<<"true", rest::binary>>, _), do: {true, rest}
  defp value(<<"false", rest::binary>>, _), do: {false, rest}
  defp value(<<"null", rest::binary>>, {_, null}), do: {null, rest}
  defp value(<<?-, c, rest::binary>> = all, _) when c in ?0..?9, do: digits(rest, all, 2, c - ?0, -1)
  defp value(<<c, rest::binary>> = all, _), do: digits(rest, all, 1, c - ?0, 1)

  defp digits(<<c, rest::binary>>, all, n, value, sign) when c in ?0..?9, do: digits(rest, all, n + 1, value * 10 + c - ?0, sign)
  defp digits(<<c, rest::binary>>, all, n, _, _) when c in '.eE', do: number(rest, all, n + 1)
  defp digits(rest, _, _, value, sign), do: {sign * value, rest}

  defp number(<<c, rest::binary>>, all, n) when c in ?0..?9 or c in '+-eE.', do: number(rest, all, n + 1)
  defp number(rest, all, n), do: {float(binary_part(all, 0, n)), rest}

  # The BEAM reads no 1e22.
  defp float(text) do
    case :binary.match(text, ".") do
      :nomatch -> text |> String.replace(~r/[eE]/, ".0e") |> String.to_float()
      _ -> String.to_float(text)
    end
  end

  defp string(<<?", rest::binary>>, all, n, []), do: {:binary.copy(binary_part(all, 0, n)), rest}
  defp string(<<?", rest::binary>>, all, n, done), do: {IO.iodata_to_binary([done, binary_part(all, 0, n)]), rest}
  defp string(<<?\\, c, rest::binary>>, all, n, done), do: unescape(c, rest, [done, binary_part(all, 0, n)])
  defp string(<<_, rest::binary>>, all, n, done), do: string(rest, all, n + 1, done)

  defp unescape(?u, <<high::binary-size(4), "\\u", low::binary-size(4), rest::binary>>, done) when binary_part(high, 0, 1) in ["d", "D"] do
    code = 0x10000 + (String.to_integer(high, 16) - 0xD800) * 0x400 + String.to_integer(low, 16) - 0xDC00
    string(rest, rest, 0, [done, <<code::utf8>>])
  end

  defp unescape(?u, <<code::binary-size(4), rest::binary>>, done) do
    case String.to_integer(code, 16) do
      half when half in 0xD800..0xDFFF -> string(rest, rest, 0, [done, "\uFFFD"])
      whole -> string(rest, rest, 0, [done, <<whole::utf8>>])
    end
  end

  defp unescape(?n, rest, done), do: string(rest, rest, 0, [done, ?\n])
  defp unescape(?r, rest, done), do: string(rest, rest, 0, [done, ?\r])
  defp unescape(?t, rest, done), do: string(rest, rest, 0, [done, ?\t])
  defp unescape(?b, rest, done), do: string(rest, rest, 0, [done, ?\b])
  defp unescape(?f, rest, done), do: string(rest, rest, 0, [done, ?\f])
  defp unescape(c, rest, done), do: string(rest, rest, 0, [done, c])

  defp array(<<c, rest::binary>>, b) when c in ' \n\r\t', do: array(rest, b)
  defp array(<<?], rest::binary>>, _), do: {[], rest}

  defp array(rest, b) do
    {first, rest} = value(rest, b)
    array(rest, b, [first])
  end

  defp array(<<?,, rest::binary>>, b, done) do
    {item, rest} = value(rest, b)
    array(rest, b, [item | done])
  end

  defp array(<<?], rest::binary>>, _, done), do: {:lists.reverse(done), rest}
  defp array(<<_, rest::binary>>, b, done), do: array(rest, b, done)

  defp object(<<c, rest::binary>>, b) when c in ' \n\r\t,', do: object(rest, b)
  defp object(<<?}, rest::binary>>, _), do: {%{}, rest}
  defp object(<<?", rest::binary>>, b), do: pair(rest, b, [])

  defp pair(rest, b, pairs) do
    {key, rest} = string(rest, rest, 0, [])
    {value, rest} = rest |> behind(?:) |> value(b)
    next(rest, b, [{key, value} | pairs])
  end

  defp next(<<?}, rest::binary>>, b, [{<<"~", tag::binary>>, value}]), do: {untagged(tag, value, b), rest}
  defp next(<<?}, rest::binary>>, _, pairs), do: {:maps.from_list(:lists.reverse(pairs)), rest}
  defp next(<<?,, rest::binary>>, b, pairs), do: rest |> behind(?") |> pair(b, pairs)
  defp next(<<_, rest::binary>>, b, pairs), do: next(rest, b, pairs)

  defp behind(<<c, rest::binary>>, c), do: rest
  defp behind(<<_, rest::binary>>, c), do: behind(rest, c)

  defp untagged("bytes", [offset, length], {b, _}), do: :binary.copy(binary_part(b, offset, length))
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
