%% Runs scripts of links, monitors, exit signals and names on the BEAM and writes what each process saw, one JSON line
%% each. The scripts are the terms that signals.py writes; beam_terms says when a step is over.
-module(beam_signals).
-export([main/2]).

main(In, Out) ->
    beam_terms:be_quiet(),
    {ok, Scripts} = file:consult(In),
    {ok, File} = file:open(Out, [write, raw, delayed_write]),
    [ok = file:write(File, [beam_terms:json(script(S)), $\n]) || S <- Scripts],
    ok = file:close(File).

script({Number, Steps}) ->
    ets:new(pids, [named_table, public]),
    register(tracer, spawn_link(fun() -> tracer([]) end)),
    [born(I, spawn(fun() -> loop(I) end)) || I <- lists:seq(0, Number - 1)],
    Seen = [step(Step) || Step <- Steps],
    [case is_integer(Key) of true -> kill(Pid); false -> ok end || {Key, Pid} <- ets:tab2list(pids)],
    Tracer = whereis(tracer),
    unlink(Tracer),
    kill(Tracer),
    ets:delete(pids),
    Seen.

step({I, Ops}) ->
    [Pid ! {do, Ops} || {_, Pid} <- ets:lookup(pids, I)], % none: its maker died before it could spawn it
    beam_terms:wait_idle(),
    tracer ! {take, self()},
    receive {taken, Events} -> Events end.

born(I, Pid) ->
    ets:insert(pids, [{I, Pid}, {Pid, I}]),
    tracer ! {watch, self(), Pid},
    receive watched -> ok end.

kill(Pid) ->
    Ref = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Ref, _, _, _} -> ok end.

pid(I) -> ets:lookup_element(pids, I, 2).

loop(I) ->
    receive
        {do, Ops} -> [tracer ! {note, [did, I, done(I, Op)]} || Op <- Ops];
        Message -> got(I, Message)
    end,
    loop(I).

got(I, Message) -> tracer ! {note, [got, I, message(Message)]}.

message({'EXIT', Pid, Reason}) -> [exit, shown(Pid), reason(Reason)];
message({'DOWN', Ref, process, Object, Reason}) ->
    [Key] = [Key || {{ref, Key}, Known} <- get(), Known =:= Ref],
    [down, Key, shown(Object), reason(Reason)];
message(Other) -> [message, Other].

shown(Pid) when is_pid(Pid) -> pid(Pid);
shown({Name, Node}) when Node =:= node() -> Name.

done(I, Op) ->
    try do(I, Op)
    catch error:noproc -> noproc; error:badarg -> badarg
    end.

do(_, {trap, On}) -> process_flag(trap_exit, On), ok;
do(_, {link, J}) -> link(pid(J)), ok;
do(_, {unlink, J}) -> unlink(pid(J)), ok;
do(_, {monitor, J, Key}) -> put({ref, Key}, monitor(process, pid(J))), ok;
do(_, {monitor_name, Name, Key}) -> put({ref, Key}, monitor(process, Name)), ok;
do(_, {demonitor, Key, Flush}) ->
    case get({ref, Key}) of
        undefined -> none;
        Ref -> demonitor(Ref, [flush || Flush]), ok
    end;
do(_, {exit, J, Reason}) -> exit(pid(J), Reason), ok;
do(_, {die, Reason}) -> exit(Reason);
do(_, raise) -> error(boom);
do(_, {alive, J}) -> is_process_alive(pid(J));
do(_, {register, Name, J}) -> register(Name, pid(J)), ok;
do(_, {unregister, Name}) -> unregister(Name), ok;
do(_, {whereis, Name}) -> case whereis(Name) of undefined -> undefined; Pid -> pid(Pid) end;
do(_, {send, J, Text}) -> pid(J) ! Text, ok;
do(_, {send_name, Name, Text}) -> Name ! Text, ok;
do(_, {spawn_link, J}) -> born(J, spawn_link(fun() -> loop(J) end)), ok;
do(_, links) ->
    {links, Links} = process_info(self(), links),
    lists:sort([pid(Pid) || Pid <- Links]);
do(_, monitors) ->
    {monitors, Monitors} = process_info(self(), monitors),
    length(Monitors);
do(I, flush) ->
    receive Message when element(1, Message) =/= do -> got(I, Message), do(I, flush) after 0 -> ok end.

tracer(Events) ->
    receive
        {note, Event} -> tracer([Event | Events]);
        {watch, From, Pid} -> monitor(process, Pid), From ! watched, tracer(Events);
        {take, From} -> From ! {taken, lists:reverse(Events)}, tracer([]);
        {'DOWN', _, process, Pid, Reason} -> tracer([[dead, pid(Pid), reason(Reason)] | Events])
    end.

reason({boom, [{_, _, _, _} | _]}) -> raised;
reason(Tuple) when is_tuple(Tuple) -> list_to_tuple([reason(Part) || Part <- tuple_to_list(Tuple)]);
reason(Other) -> Other.
