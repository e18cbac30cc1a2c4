%% Runs scenarios of supervision on the BEAM, one after the other, and writes what happened, one JSON line each.
%%
%% The scenarios are the terms that supervision.py writes. A step is over when nothing can run any more: there is one
%% scheduler, so an empty run queue says that. The clock of the restart window is ours (see use_own_clock).
-module(beam_supervision).
-export([main/2, now/0, init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2, terminate/2]).
-export([start_child/1, plain/5]).

main(In, Out) ->
    beam_terms:be_quiet(),
    use_own_clock(),
    process_flag(trap_exit, true),
    {ok, Scenarios} = file:consult(In),
    {ok, File} = file:open(Out, [write, raw, delayed_write]),
    [ok = file:write(File, [beam_terms:json(scenario(S)), $\n]) || S <- Scenarios],
    ok = file:close(File).

%% supervisor:add_restart asks erlang:monotonic_time(1); a recompiled supervisor asks now() here instead.
use_own_clock() ->
    ets:new(clock, [named_table, public]),
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(code:which(supervisor), [abstract_code]),
    {ok, supervisor, Code} = compile:forms(own_clock(Forms), []),
    code:unstick_mod(supervisor),
    {module, supervisor} = code:load_binary(supervisor, "supervisor.erl", Code).

own_clock({call, A, {remote, _, {atom, _, erlang}, {atom, _, monotonic_time}}, [{integer, _, 1}]}) ->
    {call, A, {remote, A, {atom, A, ?MODULE}, {atom, A, now}}, []};
own_clock(Form) when is_tuple(Form) -> list_to_tuple(own_clock(tuple_to_list(Form)));
own_clock([Head | Tail]) -> [own_clock(Head) | own_clock(Tail)];
own_clock(Other) -> Other.

now() -> ets:lookup_element(clock, ms, 2) div 1000.

%% The driver.

scenario({Root, Steps}) ->
    ets:insert(clock, {ms, 0}),
    Tracer = spawn_link(fun() -> tracer(#{events => [], attempts => #{}, born => #{}, names => #{}, stuck => #{}}) end),
    register(tracer, Tracer),
    Started = case start(Root) of
        {ok, Pid} -> put(root, Pid), started;
        {error, Reason} -> put(root, none), [error, reason(Reason)]
    end,
    First = observed(Started),
    Rest = [observed(step(Step)) || Step <- Steps],
    Orphans = ask(pids),
    unlink(Tracer),
    [begin exit(Pid, kill), wait_gone(Pid) end || Pid <- [Tracer | Orphans]],
    flush(),
    [First | Rest].

wait_gone(Pid) ->
    Ref = monitor(process, Pid),
    receive {'DOWN', Ref, _, _, _} -> ok end.

flush() -> receive _ -> flush() after 0 -> ok end.

observed(Answer) ->
    quiesce(),
    [Answer, ask(take)].

quiesce() ->
    beam_terms:wait_idle(),
    case ask(stuck) of
        0 -> case erlang:statistics(run_queue) of 0 -> ok; _ -> quiesce() end;
        _ -> timer:sleep(1), quiesce()
    end.

step({pass, Ms}) -> ets:update_counter(clock, ms, Ms), ok;
step({stop, Reason}) ->
    case get(root) of
        none -> dead;
        Pid -> case is_process_alive(Pid) of true -> exit(Pid, Reason), ok; false -> dead end
    end;
step({kill, Ids}) ->
    Pids = [alive(Id) || Id <- Ids],
    [exit(Pid, kill) || Pid <- Pids, Pid =/= dead],
    [case Pid of dead -> dead; _ -> ok end || Pid <- Pids];
step({burst, Id, Parts}) ->
    case alive(Id) of
        dead -> dead;
        Pid ->
            sys:suspend(Pid),
            Waits = [begin Wait = part(Part, Pid), quiesce(), Wait end || Part <- Parts],
            catch sys:resume(Pid),
            quiesce(),
            [receive {Ref, Answer} -> Answer end || Ref <- Waits]
    end;
step({link, Id, Other}) ->
    case {alive(Id), alive(Other)} of
        {Pid, Partner} when is_pid(Pid), is_pid(Partner) -> gen_server:call(Pid, {link, Partner});
        _ -> dead
    end;
step({What, Id, Term}) ->
    case alive(Id) of
        dead -> dead;
        Pid -> act(What, Pid, Term)
    end.

%% One message for a suspended supervisor: a child that ends, or a call of somebody who waits for the answer.
part({call, Call}, Sup) ->
    Driver = self(),
    Ref = make_ref(),
    spawn(fun() -> Driver ! {Ref, act(manage, Sup, Call)} end),
    Ref;
part(Step, _) ->
    Ref = make_ref(),
    self() ! {Ref, step(Step)},
    Ref.

act(crash, Pid, Reason) -> gen_server:cast(Pid, {stop, Reason});
act(raise, Pid, _) -> gen_server:cast(Pid, raise);
act(unlink, Pid, _) -> gen_server:call(Pid, unlink);
act(signal, Pid, Reason) -> exit(Pid, Reason), ok;
act(fake, Pid, Reason) -> gen_server:cast(Pid, {fake, Reason});
act(halt, Pid, Reason) ->
    try gen_server:stop(Pid, Reason, infinity)
    catch exit:_ -> other
    end;
act(manage, Pid, Call) ->
    try answer(manage(Pid, Call))
    catch exit:{Reason, _} -> [exit, reason(Reason)]
    end.

manage(Pid, {start_child, Child}) -> supervisor:start_child(Pid, spec(Child));
manage(Pid, {start_instance, Id, Worker}) -> supervisor:start_child(Pid, [{Id, Worker}]);
manage(Pid, {terminate_instance, Id}) ->
    case ask({pid, Id}) of
        none -> supervisor:terminate_child(Pid, Id);
        Instance -> supervisor:terminate_child(Pid, Instance)
    end;
manage(Pid, {terminate_child, Id}) -> supervisor:terminate_child(Pid, Id);
manage(Pid, {restart_child, Id}) -> supervisor:restart_child(Pid, Id);
manage(Pid, {delete_child, Id}) -> supervisor:delete_child(Pid, Id);
manage(Pid, {get_childspec, Id}) ->
    case supervisor:get_childspec(Pid, Id) of
        {ok, #{restart := Restart, shutdown := Shutdown, type := Type, significant := Significant}} ->
            [spec, Restart, Shutdown, Type, Significant];
        Error -> Error
    end;
manage(Pid, which_children) -> [[Id, who(P), Type] || {Id, P, Type, _} <- supervisor:which_children(Pid)];
manage(Pid, count_children) ->
    Counts = supervisor:count_children(Pid),
    [proplists:get_value(Key, Counts) || Key <- [specs, active, supervisors, workers]].

answer({ok, Pid}) -> [ok, who(Pid)];
answer({ok, Pid, Info}) -> [ok, who(Pid), Info];
answer({error, {already_started, Pid}}) -> [already_started, who(Pid)];
answer({error, {{already_started, Pid}, {child, _, _, _, _, _, _, _, _}}}) -> [already_started, who(Pid)];
answer({error, {Reason, {child, _, _, _, _, _, _, _, _}}}) -> [start_error, reason(Reason)];
answer({error, {bad_combination, Pairs}}) -> [bad_combination, Pairs];
answer({error, Word}) when Word =:= already_present; Word =:= not_found; Word =:= running; Word =:= restarting; Word =:= simple_one_for_one -> Word;
answer({error, Reason}) -> [start_error, reason(Reason)];
answer(Other) -> Other.

who(Pid) when is_pid(Pid) -> ask({who, Pid});
who(Other) -> Other.

alive(Id) ->
    case ask({pid, Id}) of
        none -> dead;
        Pid -> case is_process_alive(Pid) of true -> Pid; false -> dead end
    end.

%% Starting.

start({child, Id, _, _, _, Sup}) -> start_child({Id, Sup}).

start_child({Id, Body}) ->
    Nth = ask({attempt, Id}),
    Fates = element(3, Body),
    Fate = case Nth =< length(Fates) of true -> lists:nth(Nth, Fates); false -> ok end,
    case Fate of
        {start, ignore} -> note([ignore, Id]), ignore;
        {start, odd} -> note([fail, Id]), odd;
        {start, raise} -> note([fail, Id]), error(boom);
        {start, {error, Reason}} -> note([fail, Id]), {error, Reason};
        {start, {exit, Reason}} -> note([fail, Id]), exit(Reason);
        {start, info} ->
            case start_process(Id, Body, ok) of
                {ok, Pid} -> {ok, Pid, extra};
                Error -> Error
            end;
        _ -> start_process(Id, Body, Fate)
    end.

start_process(Id, {worker, _, _, Trap, {plain, Deaf}}, Fate) ->
    proc_lib:start_link(?MODULE, plain, [Id, Trap, Deaf, Fate, self()]);
start_process(Id, Body, Fate) ->
    Arg = {Id, Body, Fate},
    case {element(1, Body), element(2, Body)} of
        {worker, none} -> gen_server:start_link(?MODULE, Arg, []);
        {worker, Name} -> gen_server:start_link({local, Name}, ?MODULE, Arg, []);
        {_, none} -> supervisor:start_link(?MODULE, Arg);
        {_, Name} -> supervisor:start_link({local, Name}, ?MODULE, Arg)
    end.

spec({child, Id, Restart, Shutdown, Significant, Body}) ->
    Type = case element(1, Body) of worker -> worker; _ -> supervisor end,
    #{id => Id, start => {?MODULE, start_child, [{Id, Body}]}, restart => Restart, shutdown => Shutdown,
      significant => Significant, type => Type}.

init({Id, _, ignore}) -> note([ignore, Id]), ignore;
init({Id, _, {fail, Reason}}) -> note([fail, Id]), {stop, Reason};
init({Id, _, {exit, Reason}}) -> note([fail, Id]), exit(Reason);
init({Id, _, raise}) -> note([fail, Id]), error(boom);
init({Id, _, odd}) -> note([fail, Id]), odd;
init({Id, {sup, _, _, Strategy, Intensity, Period, Auto, Children}, _}) ->
    ask({born, self(), Id}),
    Flags = #{strategy => Strategy, intensity => Intensity, period => Period, auto_shutdown => Auto},
    {ok, {Flags, [spec(Child) || Child <- Children]}};
init({Id, {simple, _, _, Intensity, Period, {Restart, Shutdown}}, _}) ->
    ask({born, self(), Id}),
    Template = #{id => t, start => {?MODULE, start_child, []}, restart => Restart, shutdown => Shutdown},
    {ok, {#{strategy => simple_one_for_one, intensity => Intensity, period => Period}, [Template]}};
init({Id, {worker, _, _, Trap, Stop}, Fate}) ->
    process_flag(trap_exit, Trap),
    put(parent, started_by()),
    State = {Id, ask({born, self(), Id}), Stop},
    case Fate of
        ok -> {ok, State};
        {kills, Other} -> kill(Other), {ok, State};
        {helper, HelperTrap} ->
            Helper = {list_to_atom(atom_to_list(Id) ++ "h"), {worker, none, [], HelperTrap, quick}, ok},
            {ok, _} = gen_server:start_link(?MODULE, Helper, []),
            {ok, State};
        {then_exit, Reason} -> {ok, State, {continue, {stop, Reason}}}
    end.

kill(Id) ->
    case alive(Id) of dead -> ok; Pid -> exit(Pid, kill) end.

%% Asked while it lives: later its name may be nobody's.
started_by() ->
    case hd(get('$ancestors')) of
        Name when is_atom(Name) -> whereis(Name);
        Pid -> Pid
    end.

handle_call({link, Pid}, _, State) -> link(Pid), {reply, ok, State};
handle_call(unlink, _, State) ->
    unlink(get(parent)),
    {reply, ok, State}.

handle_continue({stop, Reason}, {Id, N, _}) -> {stop, Reason, {Id, N, quick}}.

handle_cast({stop, Reason}, {Id, N, {exit, R}}) -> {stop, Reason, {Id, N, {exit, R}}};
handle_cast({stop, Reason}, {Id, N, raise}) -> {stop, Reason, {Id, N, raise}};
handle_cast({stop, Reason}, {Id, N, _}) -> {stop, Reason, {Id, N, quick}};
handle_cast({fake, Reason}, State) -> exit(get(parent), Reason), {noreply, State};
handle_cast(raise, {_, _, _}) -> error(boom).

handle_info({'EXIT', _, Reason}, {Id, N, _} = State) ->
    note([info, Id, N, reason(Reason)]),
    {noreply, State}.

terminate(Reason, {Id, N, Stop}) ->
    note([terminate, Id, N, reason(Reason)]),
    case Stop of
        {exit, Instead} -> exit(Instead);
        raise -> error(boom);
        {kills, Other} when Reason =:= shutdown -> kill(Other);
        stubborn when Reason =:= shutdown -> note({stuck, self()}), receive never -> ok end;
        _ -> ok
    end.

%% A worker that is no gen_server; a deaf one does not stop when it is told to.

plain(Id, _, _, ignore, _) -> note([ignore, Id]), proc_lib:init_ack(ignore);
plain(Id, _, _, {Word, Reason}, _) when Word =:= fail; Word =:= exit -> note([fail, Id]), exit(Reason);
plain(Id, _, _, raise, _) -> note([fail, Id]), error(boom);
plain(Id, Trap, Deaf, Fate, Parent) ->
    process_flag(trap_exit, Trap),
    N = ask({born, self(), Id}),
    proc_lib:init_ack({ok, self()}),
    case Fate of
        {then_exit, Reason} -> exit(Reason);
        _ -> plain_loop(Id, N, Deaf, Parent)
    end.

plain_loop(Id, N, Deaf, Parent) ->
    receive
        {'$gen_cast', {stop, Reason}} -> exit(Reason);
        {'$gen_cast', raise} -> error(boom);
        {'$gen_cast', {fake, Reason}} -> exit(Parent, Reason);
        {'$gen_call', From, unlink} -> unlink(Parent), gen_server:reply(From, ok);
        {'$gen_call', From, {link, Pid}} -> link(Pid), gen_server:reply(From, ok);
        {'EXIT', Parent, shutdown} when Deaf -> note({stuck, self()});
        {'EXIT', Parent, Reason} -> exit(Reason);
        {'EXIT', _, Reason} -> note([info, Id, N, reason(Reason)])
    end,
    plain_loop(Id, N, Deaf, Parent).

%% The tracer.

ask(Request) ->
    Ref = make_ref(),
    tracer ! {ask, self(), Ref, Request},
    receive {Ref, Answer} -> Answer end.

note(Event) -> tracer ! {note, Event}, ok.

tracer(State) ->
    receive
        {ask, From, Ref, Request} ->
            {Answer, New} = answered(Request, State),
            From ! {Ref, Answer},
            tracer(New);
        {note, {stuck, Pid}} ->
            #{stuck := Stuck} = State,
            tracer(State#{stuck := Stuck#{Pid => true}});
        {note, Event} -> tracer(event(Event, State));
        {'DOWN', _, process, Pid, Reason} ->
            #{names := Names, stuck := Stuck} = State,
            [Id, N] = maps:get(Pid, Names),
            Shown = reason(Reason, fun(Other) -> maps:get(Other, Names, stranger) end),
            tracer(event([down, Id, N, Shown], State#{stuck := maps:remove(Pid, Stuck)}))
    end.

answered(take, #{events := Events} = State) -> {lists:reverse(Events), State#{events := []}};
answered(pids, #{names := Names} = State) -> {maps:keys(Names), State};
answered(stuck, #{stuck := Stuck} = State) -> {maps:size(Stuck), State};
answered({attempt, Id}, #{attempts := Attempts} = State) ->
    Nth = maps:get(Id, Attempts, 0) + 1,
    {Nth, State#{attempts := Attempts#{Id => Nth}}};
answered({born, Pid, Id}, #{born := Born, names := Names} = State) ->
    {N, _} = maps:get(Id, Born, {0, none}),
    monitor(process, Pid),
    New = State#{born := Born#{Id => {N + 1, Pid}}, names := Names#{Pid => [Id, N + 1]}},
    {N + 1, event([start, Id, N + 1], New)};
answered({who, Pid}, #{names := Names} = State) -> {maps:get(Pid, Names, stranger), State};
answered({pid, Id}, #{born := Born} = State) -> {element(2, maps:get(Id, Born, {0, none})), State}.

event(Event, #{events := Events} = State) -> State#{events := [Event | Events]}.

reason(Reason) -> reason(Reason, fun who/1).

%% Without stacks, what start functions raise without 'EXIT', and pids by their names.
reason({boom, [{_, _, _, _} | _]}, _) -> raised;
reason({'EXIT', Reason}, Who) -> reason(Reason, Who);
reason({bad_return, {_, init, Value}}, _) -> {bad_return, Value};
reason(Tuple, Who) when is_tuple(Tuple) -> list_to_tuple([reason(Part, Who) || Part <- tuple_to_list(Tuple)]);
reason(Pid, Who) when is_pid(Pid) -> Who(Pid);
reason(Other, _) -> Other.
