# What every program finds imported.
defmodule Dspex do
  @moduledoc "Functions of the sandbox."

  @doc "Show something: a text, or a map of MIME types to contents."
  def display(bundle) when is_map(bundle) and not is_struct(bundle), do: ask({:dspex_show, bundle})
  def display(text) when is_binary(text), do: ask({:dspex_show, %{"text/plain" => text}})
  def display(other), do: ask({:dspex_show, %{"text/plain" => inspect(other)}})

  @doc false
  def call_tool(name, arguments) do
    case ask_tool(name, arguments) do
      {:ok, value} -> value
      {:error, type, message} -> raise Dspex.ToolError, type: type, message: message
    end
  end

  @doc false
  def ask_tool(name, arguments), do: ask({:dspex_call, name, arguments})

  defp ask(request) do
    tag = make_ref()
    send(Dspex.Server, Tuple.insert_at(request, 1, {self(), tag}))

    receive do
      {^tag, outcome} -> outcome
    end
  end
end

defmodule Dspex.ToolError do
  @moduledoc "A tool of the host raised: `type` is the class of its exception."
  defexception [:type, :message]
end

defmodule Dspex.Tools do
  @moduledoc false

  # A module with a function for each tool, of its own number of arguments and fewer, or of up to eight; and the environment in
  # which it stands imported in the place of the one before.
  def imported(tools, before, env) do
    module = made(tools, Dspex)
    env = if before, do: evaluated(quote(do: import(unquote(before), only: [])), env), else: env
    {module, evaluated(quote(do: import(unquote(module))), env)}
  end

  # A module whose functions ask `caller` to call the tool of their name.
  def made(tools, caller) do
    module = Module.concat(Dspex, "Offered#{System.unique_integer([:positive])}")

    functions =
      for %{"name" => name, "parameters" => parameters, "description" => about} <- tools,
          arity <- 0..max(length(parameters || []), if(parameters, do: 0, else: 8)) do
        arguments = Macro.generate_arguments(arity, module)

        quote do
          @doc unquote(about || false)
          def unquote(String.to_atom(name))(unquote_splicing(arguments)), do: unquote(caller).call_tool(unquote(name), unquote(arguments))
        end
      end

    Module.create(module, {:__block__, [], functions}, Macro.Env.location(__ENV__))
    module
  end

  # A module may define a function of a tool's name, or one called display: in there it is the module's own that is meant.
  def beside(statement, env) do
    Macro.prewalk(statement, fn
      {:defmodule, meta, [name, [{:do, body} | rest]]} -> {:defmodule, meta, [name, [{:do, {:__block__, [], hidden(body, env) ++ [body]}} | rest]]}
      node -> node
    end)
  end

  defp hidden(body, env) do
    own = defined(body)

    for {module, functions} <- env.functions, String.starts_with?(Atom.to_string(module), "Elixir.Dspex"), both = Enum.filter(functions, fn {name, _} -> name in own end), both != [] do
      quote(do: import(unquote(module), except: unquote(both)))
    end
  end

  defp defined(body) do
    {_, found} = Macro.prewalk(body, [], fn
      {kind, _, [head | _]} = node, found when kind in [:def, :defp, :defmacro, :defmacrop] -> {node, [named(head) | found]}
      node, found -> {node, found}
    end)

    found
  end

  defp named({:when, _, [head | _]}), do: named(head)
  defp named({name, _, _}), do: name

  defp evaluated(quoted, env) do
    {_, _, env} = Code.eval_quoted_with_env(quoted, [], env)
    env
  end
end
