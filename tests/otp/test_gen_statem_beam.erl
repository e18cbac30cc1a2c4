%% Runs scripted state machines on a real BEAM and prints what they saw; see test_gen_statem_beam.py.
%% Compiled four times, once per callback mode, with and without state enter calls.
-module(?NAME).
-behaviour(gen_statem).
-export([main/1, init/1, callback_mode/0, handle_event/4, a/3, b/3, c/3, terminate/3]).

%% A scenario is {Id, Module, State, InitActions, Casts, EventSteps, EnterSteps}.
main([File, LifetimeMs]) ->
    {ok, Scenarios} = file:consult(File),
    logger:set_primary_config(level, none),
    Parent = self(),
    Pids = [spawn_link(fun() -> Parent ! {self(), run(S, LifetimeMs)} end) || S <- Scenarios],
    [receive {Pid, Text} -> io:put_chars([Text, "\n"]) end || Pid <- Pids],
    halt(0).

run({Id, Module, _, _, _, _, _} = Scenario, LifetimeMs) ->
    {ok, Pid} = gen_statem:start(Module, {self(), Scenario}, []),
    timer:sleep(LifetimeMs),
    End = try {alive, sys:get_state(Pid)} catch exit:_ -> ended end,
    catch sys:terminate(Pid, kill),
    io_lib:format("~w", [{Id, trace(), End}]).

trace() ->
    receive
        {seen, Entry} -> [Entry | trace()]
    after 0 -> []
    end.

init({Tracer, {_, _, State, Actions, Casts, Events, Enters}}) ->
    put(tracer, Tracer),
    put(events, Events),
    put(enters, Enters),
    [gen_statem:cast(self(), Cast) || Cast <- Casts],
    {ok, State, 0, Actions}.

callback_mode() -> ?MODE.

a(Type, Content, Data) -> step(Type, Content, a, Data).
b(Type, Content, Data) -> step(Type, Content, b, Data).
c(Type, Content, Data) -> step(Type, Content, c, Data).
handle_event(Type, Content, State, Data) -> step(Type, Content, State, Data).

step(Type, Content, State, Data) ->
    Shown = case Content of {timeout, _, _} -> stray_timer; _ -> Content end,
    get(tracer) ! {seen, {?MODULE, Type, Shown, State, Data}},
    Script = case Type of enter -> enters; _ -> events end,
    case get(Script) of
        [] -> keep_state_and_data;
        [Result | Rest] -> put(Script, Rest), Result
    end.

terminate(kill, _, _) -> ok;
terminate(Reason, State, Data) ->
    Kind = case Reason of {What, _} -> What; _ -> Reason end,
    get(tracer) ! {seen, {?MODULE, terminate, Kind, State, Data}}.
