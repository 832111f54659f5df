# One cell: read, checked, and run statement by statement in a process of its own, so that what was bound before an error stays
# bound, and an error is known by its line.
defmodule Dspex.Program do
  @moduledoc false

  alias Dspex.Errors

  def null, do: nil

  def begin do
    Application.put_env(:logger, :console, [device: :standard_error], persistent: true)
    Application.put_env(:logger, :default_handler, [config: [type: :standard_error]], persistent: true)
    {:ok, _} = Application.ensure_all_started(:logger)
    Enum.each(Application.spec(:logger, :modules), &Code.ensure_loaded/1)
  end

  defdelegate settle(), to: Logger, as: :flush

  def fresh do
    {_, _, env} = Code.eval_quoted_with_env(quote(do: import(Dspex)), [], Code.env_for_eval(file: "<program>", line: 1))
    {[], env}
  end

  def rehearsal do
    [
      "x = 1\nx + 1",
      "Enum.map([1], fn x -> x end)",
      "defmodule Dspex.Rehearsal do\n  def f, do: String.upcase(\"a\")\nend",
      "inspect({self(), :a}) <> to_string(~c\"a\") <> to_string(1)\n:calendar.local_time()\nraise \"no\""
    ]
  end

  def rehearsed, do: [Dspex.Rehearsal]

  def bind(binding, name, value), do: Keyword.put(binding, String.to_atom(name), value)

  defdelegate offer(tools, before, env), to: Dspex.Tools, as: :imported
  # The outcome of a program whose process was ended.
  def exited(reason), do: outcome(Errors.explained(:exit, reason, [], nil))
  defdelegate type_of(value), to: Errors
  defdelegate shown(value), to: Kernel, as: :inspect

  # The tree of a program, or the error of one that cannot be read.
  def read(code, file, settings) do
    case Code.string_to_quoted(code, file: file, columns: true) do
      {:ok, tree} ->
        case Dspex.Checking.first_violation(tree, settings["modules"], settings["calls"]) do
          nil -> {:ok, tree}
          {message, line} -> {:error, Errors.plain("policy", "PolicyViolation", message, line)}
        end

      {:error, {meta, message, token}} ->
        {:error, Errors.unreadable(meta, message, token, file)}
    end
  end

  # Runs in the program's own process; what it comes to is {outcome, binding, env}.
  def run(tree, binding, env, file) do
    step(statements(tree), nil, binding, %{env | file: file})
  end

  defp statements({:__block__, _, list}), do: list
  defp statements(one), do: [one]

  defp step([], value, binding, env), do: {attempt(env, fn -> leave(value) end), binding, env}

  defp step([statement | rest], _, binding, env) do
    mark(line_of(statement))

    case attempt(env, fn -> statement |> Dspex.Tools.beside(env) |> marked() |> Code.eval_quoted_with_env(binding, env) end) do
      {:value, {value, binding, env}} -> step(rest, if(definition?(statement), do: nil, else: value), binding, env)
      outcome -> {outcome, binding, env}
    end
  end

  # The value of a module's definition would be its code.
  defp definition?({name, _, _}), do: name in [:defmodule, :defprotocol, :defimpl]
  defp definition?(_), do: false

  defp attempt(env, action) do
    {:value, action.()}
  catch
    kind, reason ->
      line = Process.get(:dspex_line)

      outcome(Errors.explained(kind, reason, __STACKTRACE__, line && {env.file, line}))
  end

  defp outcome(:left), do: :left
  defp outcome(error), do: {:error, error}

  # What the program wanted done at its end, its tests above all: with ExUnit.start they run here.
  defp leave(value) do
    case :elixir_config.get_and_put(:at_exit, []) do
      [] ->
        value

      hooks ->
        Process.delete(:dspex_line)
        for hook <- hooks, do: hook.(0)
        leave(value)
    end
  end

  defp mark(line), do: if(line, do: Process.put(:dspex_line, line))

  defp line_of({_, meta, arguments}) when is_list(meta), do: meta[:line] || line_of(arguments)
  defp line_of([first | _]), do: line_of(first)
  defp line_of({left, _}), do: line_of(left)
  defp line_of(_), do: nil

  # What is evaluated rather than compiled knows no lines: each statement of an inner block tells its own first.
  @compiled [:defmodule, :defprotocol, :defimpl, :quote, :def, :defp, :defmacro, :defmacrop]

  defp marked({name, _, _} = node) when name in @compiled, do: node
  defp marked({:->, meta, [left, right]}), do: {:->, meta, [left, block(right)]}
  defp marked({:__block__, meta, list}), do: {:__block__, meta, Enum.map(list, &marked/1)}
  defp marked({name, meta, arguments}) when is_list(arguments), do: {marked(name), meta, Enum.map(arguments, &marked/1)}
  defp marked([{key, _} | _] = pairs) when key in [:do, :else, :rescue, :catch, :after], do: Enum.map(pairs, &branch/1)
  defp marked(list) when is_list(list), do: Enum.map(list, &marked/1)
  defp marked({left, right}), do: {marked(left), marked(right)}
  defp marked(other), do: other

  defp branch({key, [{:->, _, _} | _] = clauses}), do: {key, Enum.map(clauses, &marked/1)}
  defp branch({key, body}) when key in [:do, :else, :rescue, :catch, :after], do: {key, block(body)}
  defp branch(other), do: marked(other)

  defp block(body) do
    marked = Enum.flat_map(statements(body), fn statement ->
      case line_of(statement) do
        nil -> [marked(statement)]
        line -> [quote(do: :erlang.put(:dspex_line, unquote(line))), marked(statement)]
      end
    end)

    {:__block__, [], marked}
  end
end
