%% Runs scripts of what owners and handlers of an event manager do, and writes down what they saw; see
%% test_gen_event_beam.py. A handler's state is {Name, Count}; a message is {Name, Act} and only that handler acts.
-module(beam_gen_event).
-behaviour(gen_event).
-export([main/2, init/1, handle_event/2, handle_call/2, handle_info/2, terminate/2]).

main(Asked, Answered) ->
    beam_terms:be_quiet(),
    {ok, Scenarios} = file:consult(Asked),
    Answers = [[beam_terms:json(run(Scenario)), $\n] || Scenario <- Scenarios],
    ok = file:write_file(Answered, Answers).

run(Steps) ->
    Me = self(),
    {Pid, Ref} = spawn_monitor(fun() -> Me ! {self(), owner(Steps)} end),
    receive {Pid, Seen} -> erlang:demonitor(Ref, [flush]), Seen end.

owner(Steps) ->
    process_flag(trap_exit, true),
    {ok, Manager} = gen_event:start(),
    put(owner, self()),
    put(manager, Manager),
    Seen = [begin
                Answer = step(Manager, Step),
                beam_terms:wait_idle(),
                Handlers = handlers(Manager),  % it has handled the step when it answers
                {Answer, seen(), Handlers}
            end || Step <- Steps],
    exit(Manager, kill),
    Seen.

handlers(Manager) ->
    try gen_event:which_handlers(Manager) catch exit:_ -> stopped end.

step(M, {add, Name, Init}) -> added(gen_event:add_handler(M, Name, {Name, Init, self()}));
step(M, {add_sup, Name, Init}) -> added(gen_event:add_sup_handler(M, Name, {Name, Init, self()}));
step(M, {other_adds, Name}) ->
    Me = self(),
    Other = spawn(fun() ->
                          Me ! {added, gen_event:add_sup_handler(M, Name, {Name, ok, Me})},
                          receive {leave, Reason} -> exit(Reason) end
                  end),
    put(other, Other),
    receive {added, Result} -> Result end;
step(_, {other_leaves, Reason}) ->
    case get(other) of undefined -> none; Other -> Other ! {leave, Reason}, ok end;
step(M, {notify, Event}) -> gen_event:notify(M, Event);
step(M, {sync_notify, Event}) -> asked(fun() -> gen_event:sync_notify(M, Event) end);
step(M, {info, Event}) -> M ! Event, ok;
step(M, {call, Name, Request}) ->
    asked(fun() -> failed(gen_event:call(M, Name, Request)) end);
step(M, {delete, Name, Args}) ->
    asked(fun() -> failed(gen_event:delete_handler(M, Name, Args)) end);
step(M, {swap, Old, Args, New, Init}) ->
    asked(fun() -> swapped(gen_event:swap_handler(M, {Old, Args}, {New, {New, Init, self()}})) end);
step(M, {swap_sup, Old, Args, New, Init}) ->
    asked(fun() -> swapped(gen_event:swap_sup_handler(M, {Old, Args}, {New, {New, Init, self()}})) end);
step(M, stop) -> asked(fun() -> gen_event:stop(M) end).

asked(Fun) -> try Fun() catch exit:{Reason, _} -> {exit, Reason}; exit:Reason -> {exit, Reason} end.

added(ok) -> ok;
added({error, Reason}) -> {failed, Reason};
added(Other) -> failed(Other).

swapped(ok) -> ok;
swapped({error, What}) -> added(What).

failed({error, {'EXIT', _} = Exit}) -> failed(Exit);
failed({error, Reason}) -> {failed, Reason};
failed({'EXIT', _} = Exit) -> {failed, shown(Exit)};
failed(Value) -> Value.

shown({'EXIT', {oops, _}}) -> {'EXIT', raised};
shown({error, {'EXIT', _} = Exit}) -> {error, shown(Exit)};
shown({swapped, New, Pid}) -> {swapped, New, who(Pid)};
shown(Term) -> Term.

seen() ->
    receive
        {gen_event_EXIT, Name, Reason} -> [{gen_event_EXIT, Name, shown(Reason)} | seen()];
        {seen, What} -> [What | seen()];
        {'EXIT', Pid, Reason} -> [{'EXIT', who(Pid), Reason} | seen()]
    after 0 -> []
    end.

who(Pid) ->
    case {get(owner), get(manager), get(other)} of
        {Pid, _, _} -> owner;
        {_, Pid, _} -> manager;
        _ -> other
    end.

%% The handler. Its owner is told everything.

init({{_, _, _} = Args, Handed}) -> begun(Args, shown(Handed));
init(Args) -> begun(Args, nothing).

begun({Name, Init, Owner}, Handed) ->
    Owner ! {seen, {init, Name, Handed}},
    case Init of
        ok -> {ok, {Name, 0, Owner}};
        refuse -> {error, refused};
        crash -> error(oops)
    end.

handle_event(Event, State) -> act(event, Event, State).
handle_call({_, ok}, {_, Count, _} = State) -> {ok, {reply, Count}, State};
handle_call({_, remove}, _) -> {remove_handler, bye};
handle_call({_, {swap, New, Init}}, {_, _, Owner} = State) ->
    {swap_handler, swapping, args, State, New, {New, Init, Owner}};
handle_call({_, bad}, _) -> bad;
handle_call({_, crash}, _) -> error(oops);
handle_call({_, leave}, _) -> exit(gone).

handle_info({'EXIT', _, Reason}, State) -> act(info, {none, {'EXIT', Reason}}, State);
handle_info(Message, State) -> act(info, Message, State).

act(Kind, {Name, Act}, {Name, Count, Owner} = State) ->
    Owner ! {seen, {Kind, Name, Count}},
    case Act of
        ok -> {ok, {Name, Count + 1, Owner}};
        remove -> remove_handler;
        {swap, New, Init} -> {swap_handler, args, State, New, {New, Init, Owner}};
        bad -> bad;
        crash -> error(oops);
        leave -> exit(gone)
    end;
act(_, {_, {'EXIT', Reason}}, {Name, Count, Owner} = State) ->
    Owner ! {seen, {exit, Name, Count, Reason}},
    {ok, State};
act(_, _, State) -> {ok, State}.

terminate(boom, {Name, Count, Owner}) ->
    Owner ! {seen, {terminate, Name, Count, boom}},
    error(oops);
terminate(Args, {Name, Count, Owner}) ->
    Owner ! {seen, {terminate, Name, Count, shown(Args)}},
    {given, Name, Count}.
