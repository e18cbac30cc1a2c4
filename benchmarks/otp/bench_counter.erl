%% The gen_server of the benchmark: counts casts, answers with the count.
-module(bench_counter).
-behaviour(gen_server).
-export([start_link/0, start_link/1, start_counted/1, init/1, handle_call/3, handle_cast/2]).

start_link() -> gen_server:start_link(?MODULE, none, []).
start_link(Name) -> gen_server:start_link({local, Name}, ?MODULE, none, []).
start_counted(Starts) -> gen_server:start_link(?MODULE, {counted, Starts}, []).

init(none) -> {ok, 0};
init({counted, Starts}) -> counters:add(Starts, 1, 1), {ok, 0}.

handle_call(get, _From, Count) -> {reply, Count, Count}.

handle_cast(_Request, Count) -> {noreply, Count + 1}.
