%% What the modules beside this one share: terms as JSON, and waiting until nothing runs any more.
-module(beam_terms).
-export([json/1, be_quiet/0, wait_idle/0]).

%% No logs, and every module loaded: reading a file is work that the run queue does not show.
be_quiet() ->
    logger:set_primary_config(level, none),
    Apps = [filename:dirname(code:which(Module)) || Module <- [kernel, lists]],
    Files = lists:append([filelib:wildcard(filename:join(App, "*.beam")) || App <- Apps]),
    [code:ensure_loaded(list_to_atom(filename:basename(File, ".beam"))) || File <- Files],
    ok.

%% There is one scheduler and it runs us: an empty run queue means that everybody else waits.
wait_idle() ->
    case erlang:statistics(run_queue) of
        0 -> ok;
        _ -> erlang:yield(), wait_idle()
    end.

%% Atoms become strings, tuples become lists.
json(Atom) when is_atom(Atom) -> [$", atom_to_list(Atom), $"];
json(Number) when is_integer(Number) -> integer_to_list(Number);
json(Tuple) when is_tuple(Tuple) -> json(tuple_to_list(Tuple));
json(List) when is_list(List) -> [$[, lists:join($,, [json(Item) || Item <- List]), $]].
