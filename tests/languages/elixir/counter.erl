%% A counter as a server, its state a record; the program ends with what its tests return.
-module(counter).
-behaviour(gen_server).
-export([start/1, add/2, value/1, init/1, handle_call/3, handle_cast/2, main/0]).
-include_lib("stdlib/include/assert.hrl").
-record(state, {count = 0 :: integer(), log = [] :: [integer()]}).
-define(LIMIT, 100).

start(Count) -> gen_server:start(?MODULE, Count, []).
add(Pid, N) -> gen_server:cast(Pid, {add, N}).
value(Pid) -> gen_server:call(Pid, value).

init(Count) when Count < ?LIMIT -> {ok, #state{count = Count}};
init(_) -> {stop, too_large}.

handle_call(value, _From, #state{count = Count, log = Log} = State) ->
    {reply, {Count, lists:reverse(Log)}, State}.

handle_cast({add, N}, #state{count = Count, log = Log} = State) ->
    {noreply, State#state{count = Count + N, log = [N | Log]}}.

main() ->
    {ok, Pid} = start(40),
    [add(Pid, N) || N <- [5, -3]],
    ?assertEqual({42, [5, -3]}, value(Pid)),
    ?assertMatch({error, too_large}, start(?LIMIT)),
    ?assertException(exit, {noproc, _}, value(nobody)),
    io:format("~p tests~n", [3]),
    {Count, _} = value(Pid),
    #{count => Count, <<"name">> => <<"counter">>}.
