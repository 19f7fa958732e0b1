
from . import views  # noqa: F401

urlpatterns = []
