# What a program comes to, as the host is told: {text of the value, buffers, whether it holds tags, envelope}.
defmodule Dspex.Answer do
  @moduledoc false

  alias Dspex.{Errors, Json}

  def left, do: {<<>>, [], false, %{"type" => "SystemExit"}}
  def failed(error), do: {<<>>, [], false, %{"error" => error}}

  def of(:left, _, _), do: left()
  def of({:error, error}, _, _), do: failed(error)
  def of({:value, nothing}, _, _) when nothing in [nil, :null], do: {<<>>, [], false, %{}}

  def of({:value, value}, dialect, limit) do
    {text, buffers, tagged} = Json.encode(value)

    if byte_size(text) + IO.iodata_length(buffers) > limit do
      failed(Errors.plain("value_limit", "ArgumentError", "the value takes more than #{limit} bytes"))
    else
      {text, buffers, tagged, %{"type" => dialect.type_of(value)}}
    end
  catch
    {:not_carried, _} -> {<<>>, [], false, %{"type" => dialect.type_of(value), "repr" => value |> dialect.shown() |> String.slice(0, 2000)}}
  end
end
