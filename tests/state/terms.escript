%% Reads a term with binary_to_term and `safe`, says whether it is the expected one, and writes it and others back.
main([In, Out, Foreign]) ->
    {ok, Bin} = file:read_file(In),
    Term = binary_to_term(Bin, [safe]),
    State = maps:get(<<"state">>, Term),
    true = State =:= expected(),
    ok = file:write_file(Out, term_to_binary(Term, [deterministic])),
    ok = file:write_file(Foreign, term_to_binary(foreign())),
    io:format("same").

expected() ->
    #{<<"none">> => nil, <<"flags">> => [true, false],
      <<"numbers">> => [0, 255, 256, -1, 1 bsl 31, -(1 bsl 31) - 1, 1 bsl 63, -(1 bsl 64), 1 bsl 4000],
      <<"float">> => 1.5, <<"text">> => <<"ünï"/utf8>>, <<"empty">> => [],
      <<"bytes">> => {<<"$bytes">>, <<255, 0>>},
      <<"tuple">> => {<<"$tuple">>, [1, <<"a">>]},
      <<"infinite">> => {<<"$float">>, <<"inf">>},
      <<"keys">> => {<<"$dict">>, [[0, <<"int">>], [<<"0">>, <<"str">>]]},
      <<"nested">> => #{<<"a">> => [#{}]}}.

foreign() ->
    #{<<"string">> => "abc", <<"tuple">> => {1, {}, <<"x">>}, 7 => nil, <<"floats">> => [0.1, -1.0e300],
      <<"big">> => -(1 bsl 70), <<"wide">> => list_to_tuple(lists:seq(1, 300)),
      <<"long">> => lists:seq(250, 260), <<"tagged">> => {<<"$bytes">>, <<1, 2>>}}.
