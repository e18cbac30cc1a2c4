%% The benchmark's rows on the BEAM: main([Row, Number, Repeats]) prints a JSON list of results and halts.
-module(bench_rows).
-behaviour(supervisor).
-export([main/1, init/1]).

main([RowText, NumberText, RepeatsText]) ->
    logger:set_primary_config(level, none),
    Row = list_to_atom(RowText),
    [Number, Repeats] = [list_to_integer(Text) || Text <- [NumberText, RepeatsText]],
    Results = [alone(fun() -> row(Row, Number) end) || _ <- lists:seq(1, Repeats)],
    io:format("[~s]~n", [lists:join(",", [io_lib:format("~.6f", [float(Result)]) || Result <- Results])]),
    halt().

%% Each repeat in a process of its own, so that all it linked goes with it.
alone(Work) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({result, Work()}) end),
    receive
        {'DOWN', Ref, process, Pid, {result, Result}} -> erlang:garbage_collect(), Result;
        {'DOWN', Ref, process, Pid, Reason} -> io:format(standard_error, "~p~n", [Reason]), halt(1)
    end.

row(start, Number) ->
    Sup = dynamic(),
    Number / seconds(fun() -> start_children(Sup, Number) end);
row(cast, Number) ->
    {ok, Server} = bench_counter:start_link(),
    Number / seconds(fun() -> casts(Server, Number), Number = gen_server:call(Server, get, infinity) end);
row(call, Number) ->
    {ok, Server} = bench_counter:start_link(),
    Number / seconds(fun() -> calls(Server, Number) end);
row(fan_out, Number) ->
    Servers = [element(2, bench_counter:start_link()) || _ <- lists:seq(1, Number)],
    Number / seconds(fun() ->
        [gen_server:cast(Server, add) || Server <- Servers],
        [1 = gen_server:call(Server, get) || Server <- Servers]
    end);
row(ring, Number) ->
    Hops = [Last | _] = [element(2, bench_hop:start_link(self())) || _ <- lists:seq(1, 1000)],
    lists:foldl(fun(Hop, Before) -> gen_server:cast(Before, {next, Hop}), Hop end, Last, tl(Hops) ++ [Last]),
    [ok = gen_server:call(Hop, ready) || Hop <- Hops],
    Number / seconds(fun() -> gen_server:cast(Last, Number), receive arrived -> ok end end);
row(memory, Number) ->
    Sup = dynamic(),
    start_children(Sup, 100),
    Before = resident(),
    start_children(Sup, Number),
    (resident() - Before) / Number;
row(restart, Number) ->
    {ok, Sup} = supervisor:start_link(?MODULE, {one_for_one, [spec(it, start_link, [it])]}),
    Rate = Number / seconds(fun() -> restarts(Number) end),
    ok = gen_server:stop(Sup), % the name is free again for the next repeat
    Rate;
row(one_for_all, Number) ->
    Starts = counters:new(1, []),
    Specs = [spec(I, start_counted, [Starts]) || I <- lists:seq(1, Number)],
    {ok, Sup} = supervisor:start_link(?MODULE, {one_for_all, Specs}),
    [{_, Newest, _, _} | _] = supervisor:which_children(Sup),
    Number / seconds(fun() -> exit(Newest, kill), wait_count(Starts, 2 * Number) end);
row(remote_cast, Number) ->
    Server = {counter, list_to_atom(os:getenv("BENCH_PEER"))},
    Before = gen_server:call(Server, get, infinity),
    Number / seconds(fun() ->
        casts(Server, Number),
        Total = Before + Number,
        Total = gen_server:call(Server, get, infinity)
    end).

init(dynamic) -> {ok, {#{strategy => simple_one_for_one}, [spec(counter, start_link, [])]}};
init({Strategy, Specs}) -> {ok, {#{strategy => Strategy, intensity => 1000000000, period => 1}, Specs}}.

spec(Id, Function, Args) -> #{id => Id, start => {bench_counter, Function, Args}}.

dynamic() ->
    {ok, Sup} = supervisor:start_link(?MODULE, dynamic),
    Sup.

start_children(_, 0) -> ok;
start_children(Sup, Left) ->
    {ok, _} = supervisor:start_child(Sup, []),
    start_children(Sup, Left - 1).

casts(_, 0) -> ok;
casts(Server, Left) -> gen_server:cast(Server, add), casts(Server, Left - 1).

calls(_, 0) -> ok;
calls(Server, Left) -> gen_server:call(Server, get), calls(Server, Left - 1).

restarts(0) -> ok;
restarts(Left) ->
    Old = whereis(it),
    exit(Old, kill),
    wait_new(Old),
    restarts(Left - 1).

wait_new(Old) ->
    case whereis(it) of
        New when is_pid(New), New =/= Old -> ok;
        _ -> erlang:yield(), wait_new(Old)
    end.

wait_count(Starts, Number) ->
    case counters:get(Starts, 1) of
        Number -> ok;
        _ -> erlang:yield(), wait_count(Starts, Number)
    end.

seconds(Work) ->
    Begun = erlang:monotonic_time(microsecond),
    Work(),
    (erlang:monotonic_time(microsecond) - Begun) / 1000000.

resident() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = binary:split(Text, <<" ">>, [global]),
    binary_to_integer(Pages) * 4096.
