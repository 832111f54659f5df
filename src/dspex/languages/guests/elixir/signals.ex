# SIGUSR2 is how the host interrupts.
defmodule Dspex.Signals do
  @moduledoc false
  @behaviour :gen_event

  def install do
    :ok = :os.set_signal(:sigusr2, :handle)
    :gen_event.add_handler(:erl_signal_server, __MODULE__, [])
  end

  @impl true
  def init(_), do: {:ok, nil}

  @impl true
  def handle_event(:sigusr2, state) do
    send(Dspex.Server, :dspex_interrupt)
    {:ok, state}
  end

  def handle_event(_, state), do: {:ok, state}

  @impl true
  def handle_call(_, state), do: {:ok, :ok, state}
end
