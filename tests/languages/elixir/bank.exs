# A bank of accounts, each a process: deposits, withdrawals, transfers, and what may go wrong.
defmodule Bank.InsufficientFunds do
  defexception [:account, :balance, :wanted]

  @impl true
  def message(%{account: account, balance: balance, wanted: wanted}) do
    "#{account} holds #{balance}, #{wanted} wanted"
  end
end

defmodule Bank.Account do
  use GenServer

  defstruct owner: nil, balance: 0, history: []

  def start_link(owner, balance \\ 0) do
    GenServer.start_link(__MODULE__, %__MODULE__{owner: owner, balance: balance})
  end

  def deposit(pid, amount) when is_integer(amount) and amount > 0, do: GenServer.call(pid, {:deposit, amount})
  def withdraw(pid, amount) when is_integer(amount) and amount > 0, do: GenServer.call(pid, {:withdraw, amount})
  def state(pid), do: GenServer.call(pid, :state)

  @impl true
  def init(account), do: {:ok, account}

  @impl true
  def handle_call({:deposit, amount}, _from, account) do
    account = %{account | balance: account.balance + amount, history: [{:deposit, amount} | account.history]}
    {:reply, {:ok, account.balance}, account}
  end

  def handle_call({:withdraw, amount}, _from, %{balance: balance} = account) when balance < amount do
    {:reply, {:error, %Bank.InsufficientFunds{account: account.owner, balance: balance, wanted: amount}}, account}
  end

  def handle_call({:withdraw, amount}, _from, account) do
    account = %{account | balance: account.balance - amount, history: [{:withdraw, amount} | account.history]}
    {:reply, {:ok, account.balance}, account}
  end

  def handle_call(:state, _from, account), do: {:reply, account, account}
end

defmodule Bank do
  alias Bank.Account

  def transfer!(from, to, amount) do
    with {:ok, _} <- Account.withdraw(from, amount), {:ok, balance} <- Account.deposit(to, amount) do
      balance
    else
      {:error, %{__exception__: true} = reason} -> raise reason
    end
  end

  def total(accounts), do: accounts |> Enum.map(&Account.state(&1).balance) |> Enum.sum()
end

import ExUnit.Assertions

{:ok, ada} = Bank.Account.start_link("Ada", 100)
{:ok, bob} = Bank.Account.start_link("Bob")

assert Bank.transfer!(ada, bob, 30) == 30
assert {:ok, 35} = Bank.Account.deposit(bob, 5)
assert_raise Bank.InsufficientFunds, "Ada holds 70, 500 wanted", fn -> Bank.transfer!(ada, bob, 500) end
assert_raise FunctionClauseError, fn -> Bank.Account.deposit(ada, -1) end

for account <- [ada, bob], %{owner: owner, balance: balance} = Bank.Account.state(account) do
  IO.puts("#{String.pad_trailing(owner, 5)}#{balance}")
end

%{total: Bank.total([ada, bob]), history: Bank.Account.state(bob).history}
