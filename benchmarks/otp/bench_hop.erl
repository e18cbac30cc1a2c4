%% One process of the ring: hands a falling number on to the next.
-module(bench_hop).
-behaviour(gen_server).
-export([start_link/1, init/1, handle_call/3, handle_cast/2]).

start_link(Client) -> gen_server:start_link(?MODULE, Client, []).

init(Client) -> {ok, {Client, none}}.

handle_call(_, _, State) -> {reply, ok, State}.

handle_cast({next, Pid}, {Client, _}) -> {noreply, {Client, Pid}};
handle_cast(0, {Client, _} = State) -> Client ! arrived, {noreply, State};
handle_cast(Left, {_, Next} = State) -> gen_server:cast(Next, Left - 1), {noreply, State}.
