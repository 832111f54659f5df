# Erlang by the same guest: a program is expressions and forms, each ended by a dot, in any order.
#
# Theory of operation. All forms are compiled before anything runs: those behind a `-module` into that module, all others into
# `program`, which a session keeps and compiles anew when a cell adds to it. Expressions are then evaluated one by one (`erl_eval`);
# what they call without naming a module is looked for in `program`, among the tools, and in the session's other modules. A program
# of forms alone is started by its `main`.
defmodule Dspex.Erlang do
  @moduledoc false

  alias Dspex.{Errors, Erlang}

  @own :program
  @file_name ~c"<program>"
  @offered [display: 1]

  # `forms` of `program` by what they define; `others`: the session's other modules, the latest first; `tools`: the module of the tools.
  defstruct forms: %{}, others: [], tools: nil

  def null, do: :null

  def begin do
    :ok = :logger.remove_handler(:default)
    :ok = :logger.add_handler(:default, :logger_std_h, %{config: %{type: :standard_error}})
  end

  def settle, do: :logger_std_h.filesync(:default)

  def fresh do
    {:module, Dspex} = Code.ensure_loaded(Dspex)
    {:erl_eval.new_bindings(), %__MODULE__{}}
  end

  def rehearsed, do: [@own]
  def rehearsal, do: ["X = 1, [X + Y || Y <- [1]].", "-record(r, {a}).\nf(X) -> #r{a = X}.\nf(1).\nio:format(\"\").", "error(no)."]

  # The host's names begin with a small letter, Erlang's variables with a capital.
  def bind(bindings, <<first::binary-size(1), rest::binary>>, value) do
    :erl_eval.add_binding(String.to_atom(String.upcase(first) <> rest), value, bindings)
  end

  def offer(tools, _, env) do
    module = Dspex.Tools.made(tools, __MODULE__)
    {module, %{env | tools: module}}
  end

  def call_tool(name, arguments) do
    case Dspex.ask_tool(name, arguments) do
      {:ok, value} -> value
      {:error, type, message} -> :erlang.error({:tool_error, type, message})
    end
  end

  def exited(reason), do: outcome(Erlang.Errors.explained(:exit, reason, [], nil))
  defdelegate type_of(value), to: Erlang.Errors
  def shown(value), do: :io_lib.format("~tp", [value]) |> IO.chardata_to_string()

  def read(code, _, settings) do
    with {:ok, pieces} <- Erlang.Reader.read(code) do
      case Erlang.Checking.first_violation(pieces, settings["modules"], settings["calls"]) do
        nil -> {:ok, pieces}
        {message, line} -> {:error, Errors.plain("policy", "PolicyViolation", message, line)}
      end
    end
  end

  # Runs in the program's own process; what it comes to is {outcome, bindings, env}.
  def run(pieces, bindings, env, _file) do
    case compiled(for({:form, form} <- pieces, do: form), env) do
      {:ok, env, started} ->
        expressions = for {:expressions, list} <- pieces, expression <- list, do: expression
        expressions = if expressions == [] and started, do: started(started), else: expressions
        step(expressions, nil, bindings, env)

      {:error, error} ->
        {{:error, error}, bindings, env}
    end
  end

  # --- Forms -------------------------------------------------------------------------------------------------------------

  # The environment with all modules loaded, and the last of them.
  defp compiled([], env), do: {:ok, env, nil}

  defp compiled(forms, env) do
    {last, placed} = Enum.reduce(forms, {@own, []}, &placed/2)
    modules = placed |> Enum.reverse() |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))
    env = %{env | forms: Enum.reduce(modules[@own] || [], env.forms, &Map.put(&2, defined(&1), &1))}
    env = %{env | others: Enum.uniq((Map.keys(modules) -- [@own]) ++ env.others)}
    modules = if modules[@own], do: Map.put(modules, @own, env.forms |> Map.values() |> Enum.sort()), else: modules
    with :ok <- all_loaded(Map.to_list(modules), env), do: {:ok, env, last}
  end

  defp placed({:attribute, _, :module, name}, {_, found}), do: {name, found}
  defp placed(form, {module, found}), do: {module, [{module, form} | found]}

  defp defined({:function, _, name, arity, _}), do: {:function, name, arity}
  defp defined({:attribute, _, :record, {name, _}}), do: {:record, name}
  defp defined({:attribute, _, kind, {named, _}}), do: {kind, named}
  defp defined({:attribute, _, kind, content}), do: {kind, content}
  defp defined(other), do: other

  defp all_loaded([], _), do: :ok
  defp all_loaded([{name, forms} | rest], env), do: with(:ok <- loaded(name, forms, env), do: all_loaded(rest, env))

  defp loaded(name, forms, env) do
    options = [:return, {:source, @file_name} | if(name == @own, do: [:export_all, :nowarn_export_all, :nowarn_unused_record], else: [])]

    case :compile.forms([{:attribute, 1, :file, {@file_name, 1}}, {:attribute, 1, :module, name} | imports(forms, env) ++ forms], options) do
      {:ok, _, code, warnings} ->
        warn(warnings)
        {:module, _} = :code.load_binary(name, @file_name, code)
        :ok

      {:error, [{_, [{place, module, reason} | _]} | _], _} ->
        {:error, Erlang.Reader.unreadable("CompileError", place, module, reason)}
    end
  end

  # Tools are there without a module's name, unless the module has a function of the same name itself.
  defp imports(forms, env) do
    own = for {:function, _, name, arity, _} <- forms, do: {name, arity}
    tools = if env.tools, do: [{env.tools, exported(env.tools) -- own}], else: []
    for {module, functions} <- [{Dspex, @offered -- own} | tools], do: {:attribute, 1, :import, {module, functions}}
  end

  defp exported(module), do: module.module_info(:exports) -- [module_info: 0, module_info: 1, __info__: 1]

  defp warn(warnings) do
    for {_, found} <- warnings, {place, module, reason} <- found do
      IO.puts(:stderr, "<program>:#{:erl_anno.line(:erl_anno.new(place))}: Warning: #{module.format_error(reason)}")
    end
  end

  # --- Expressions -------------------------------------------------------------------------------------------------------

  # How a program of forms alone is started.
  defp started(module) do
    case for(arity <- [0, 1], function_exported?(module, :main, arity), do: arity) do
      [0 | _] -> [{:call, 0, {:remote, 0, {:atom, 0, module}, {:atom, 0, :main}}, []}]
      [1] -> [{:call, 0, {:remote, 0, {:atom, 0, module}, {:atom, 0, :main}}, [{nil, 0}]}]
      [] -> []
    end
  end

  defp step([], value, bindings, env), do: {{:value, value}, bindings, env}

  # As in Erlang's shell, unless the program has an f of its own: a variable, or all of them, may be forgotten, and be bound anew then.
  defp step([{:call, _, {:atom, _, :f}, []} | rest], _, _, env) when not is_map_key(env.forms, {:function, :f, 0}) do
    step(rest, :ok, :erl_eval.new_bindings(), env)
  end

  defp step([{:call, _, {:atom, _, :f}, [{:var, _, name}]} | rest], _, bindings, env) when not is_map_key(env.forms, {:function, :f, 1}) do
    step(rest, :ok, :erl_eval.del_binding(name, bindings), env)
  end

  defp step([expression | rest], _, bindings, env) do
    try do
      [expression] |> lines() |> Enum.map(&expanded(&1, env)) |> :erl_eval.exprs(bindings, {:value, &called(env, &1, &2)})
    catch
      kind, reason ->
        {outcome(Erlang.Errors.explained(kind, reason, __STACKTRACE__, Process.get(:dspex_line))), bindings, env}
    else
      {:value, value, bindings} -> step(rest, value, bindings, env)
    end
  end

  defp outcome(:left), do: :left
  defp outcome(error), do: {:error, error}

  # What is called without a module's name.
  defp called(env, name, arguments) do
    arity = length(arguments)
    places = [@own, env.tools, Dspex | env.others]

    case Enum.find(places, &(&1 && function_exported?(&1, name, arity) && (&1 != Dspex or {name, arity} in @offered))) do
      nil -> :erlang.raise(:error, :undef, [{@own, name, arguments, []}])
      module -> apply(module, name, arguments)
    end
  end

  # Records are known to a compiler only: they are expanded in a function made for it.
  defp expanded(expression, env) do
    case for({{:record, _}, form} <- env.forms, do: form) do
      [] ->
        expression

      records ->
        function = {:function, 1, :f, 0, [{:clause, 1, [], [], [expression]}]}
        {:function, _, _, _, [{:clause, _, [], [], [expanded]}]} = (records ++ [function]) |> :erl_expand_records.module([]) |> List.last()
        expanded
    end
  end

  # What is evaluated rather than compiled knows no lines: each expression of a body tells its own first.
  defp lines(body), do: Enum.flat_map(body, &[told(element(&1)), marked(&1)])

  defp element(expression), do: expression |> elem(1) |> :erl_anno.line()

  defp told(line), do: {:call, 0, {:remote, 0, {:atom, 0, :erlang}, {:atom, 0, :put}}, [{:atom, 0, :dspex_line}, {:integer, 0, line}]}

  defp marked({:clause, place, patterns, guards, body}), do: {:clause, place, patterns, guards, lines(body)}
  defp marked({:block, place, body}), do: {:block, place, lines(body)}
  defp marked({:try, place, body, clauses, handlers, behind}), do: {:try, place, lines(body), marked(clauses), marked(handlers), lines(behind)}
  defp marked(node) when is_tuple(node), do: node |> Tuple.to_list() |> marked() |> List.to_tuple()
  defp marked([first | rest]), do: [marked(first) | marked(rest)]
  defp marked(other), do: other
end
