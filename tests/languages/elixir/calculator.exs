# A calculator by recursive descent, with its tests: they pass.
defmodule Calculator do
  @type token :: {:number, number} | {:operator, String.t()} | :open | :close

  @spec evaluate(String.t()) :: {:ok, number} | {:error, String.t()}
  def evaluate(text) do
    with {:ok, tokens} <- tokens(text, []), {:ok, value, []} <- sum(tokens) do
      {:ok, value}
    else
      {:ok, _, [token | _]} -> {:error, "unexpected #{inspect(token)}"}
      {:error, reason} -> {:error, reason}
    end
  end

  defp tokens("", found), do: {:ok, Enum.reverse(found)}
  defp tokens(" " <> rest, found), do: tokens(rest, found)
  defp tokens("(" <> rest, found), do: tokens(rest, [:open | found])
  defp tokens(")" <> rest, found), do: tokens(rest, [:close | found])
  defp tokens(<<sign, rest::binary>>, found) when sign in ~c"+-*/", do: tokens(rest, [{:operator, <<sign>>} | found])

  defp tokens(text, found) do
    case Float.parse(text) do
      {number, rest} -> tokens(rest, [{:number, number} | found])
      :error -> {:error, "cannot read #{inspect(text)}"}
    end
  end

  defp sum(tokens), do: chain(tokens, &product/1, ["+", "-"])
  defp product(tokens), do: chain(tokens, &atom/1, ["*", "/"])

  defp chain(tokens, operand, operators) do
    with {:ok, left, rest} <- operand.(tokens), do: more(left, rest, operand, operators)
  end

  defp more(left, [{:operator, sign} | rest] = tokens, operand, operators) do
    if sign in operators do
      with {:ok, right, rest} <- operand.(rest), {:ok, value} <- apply_sign(sign, left, right), do: more(value, rest, operand, operators)
    else
      {:ok, left, tokens}
    end
  end

  defp more(left, rest, _, _), do: {:ok, left, rest}

  defp apply_sign("/", _, zero) when zero == 0, do: {:error, "division by zero"}
  defp apply_sign(sign, left, right), do: {:ok, apply(Kernel, String.to_existing_atom(sign), [left, right])}

  defp atom([{:number, number} | rest]), do: {:ok, number, rest}
  defp atom([{:operator, "-"} | rest]), do: with({:ok, value, rest} <- atom(rest), do: {:ok, -value, rest})

  defp atom([:open | rest]) do
    case sum(rest) do
      {:ok, value, [:close | rest]} -> {:ok, value, rest}
      {:ok, _, _} -> {:error, "missing )"}
      error -> error
    end
  end

  defp atom(tokens), do: {:error, "expected a number, not #{inspect(List.first(tokens))}"}
end

ExUnit.start(seed: 0)

defmodule CalculatorTest do
  use ExUnit.Case, async: true

  describe "evaluate/1" do
    for {text, value} <- [{"1 + 2 * 3", 7.0}, {"(1 + 2) * 3", 9.0}, {"-(2) * 2", -4.0}, {"8 / 2 / 2", 2.0}] do
      test text do
        assert {:ok, unquote(value)} == Calculator.evaluate(unquote(text))
      end
    end

    test "division by zero" do
      assert {:error, "division by zero"} = Calculator.evaluate("1 / (2 - 2)")
    end

    test "what it cannot read" do
      assert {:error, reason} = Calculator.evaluate("1 + x")
      assert reason =~ "cannot read"
      assert {:error, "missing )"} = Calculator.evaluate("(1 + 2")
    end
  end
end
